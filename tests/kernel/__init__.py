"""Tests of spliceio/_kernel: the raw calls, pipes, arguments, what an object's bytes are."""
