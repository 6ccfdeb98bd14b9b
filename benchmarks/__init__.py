"""The speed table: spliceio beside its real peers, in one run.

Run with ``python -m benchmarks``.
Every figure is a median over alternating rounds (ABCABC), so that a slow moment of the machine
falls on all contestants alike, and only ratios taken within one run mean anything.
"""
