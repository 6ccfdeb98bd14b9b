"""One call, one descriptor: the four system calls, pipes, what a descriptor is, errors.

Nothing here moves bytes from one end to the other in a loop.
"""
