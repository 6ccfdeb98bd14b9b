"""One way: what an end is, which methods suit a pair, and the calls that move bytes between two.

Not here: two ways, many sinks, files by their paths; and the C state machine, csrc/transfer/.
"""
