"""Tests of spliceio/_memory: Blob and PageWriter."""
