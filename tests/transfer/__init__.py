"""Tests of spliceio/_transfer and csrc/transfer: one way, from anything to anything."""
