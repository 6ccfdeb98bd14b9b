"""Tests of spliceio/_files: files copied whole, and what is left of those that are replaced."""
