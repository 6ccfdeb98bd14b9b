"""One-way transfers: methods for a pair of descriptors, copy, send, receive, peek.

Not here: two ways, many sinks, files by their paths; and the C state machine, csrc/transfer/.
"""
