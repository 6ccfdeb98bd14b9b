"""Tracing other programs: strace, its output parsed, and statistics of their system calls.

Needs nothing of the rest of the package; the `trace` command is in `_cli`.
"""
