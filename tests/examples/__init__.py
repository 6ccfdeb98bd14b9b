"""Tests of examples/: short programs, and whether they are what they say."""
