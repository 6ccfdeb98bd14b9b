"""Tests of spliceio/_trace: other programs under strace, and what strace prints."""
