"""Command line: `spliceio` and its subcommands.

Here is what reads arguments, draws, and turns an exception into a line and an exit status. What a
command does stands below; no other part of the package imports this one.
"""
