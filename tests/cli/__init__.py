"""Tests of spliceio/_cli: the commands, as a person or a shell runs them."""
