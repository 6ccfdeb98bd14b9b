"""Which calls another program makes: strace, its lines, and what they add up to.

Needs nothing of the rest of the package; the `trace` command is in `_cli`.
"""
