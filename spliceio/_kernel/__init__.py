"""System calls and descriptors: splice, tee, vmsplice, sendfile, pipes, fstat data, errors.

Nothing here moves bytes from one end to the other in a loop.
"""
