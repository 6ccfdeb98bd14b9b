"""What the tests stand on: transports, the C seam, the states of other threads, descriptor counts.

Nothing in here asserts what the library does; it only makes both ends of a transport, reads all of
it back, and says what the kernel sees.
"""
