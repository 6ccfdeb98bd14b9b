"""Tests of spliceio/_relay, csrc/relay and csrc/loop: two ways, alone and in a pool."""
