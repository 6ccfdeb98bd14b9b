"""Tests of spliceio/_fanout and csrc/fanout: one source to many sinks."""
