"""Memory as a source: `Blob`, a sealed memfd, and `PageWriter`, pages given to a pipe.

Not here: sending it, which is `_transfer`'s.
"""
