"""Two-way relays: `relay`, and `RelayPool` with its engines, jobs and futures.

Not here: where the two ends come from, which is `_proxy`'s or the caller's.
"""
