"""One to many: `fanout`, its sinks and what becomes of each.

Not here: what drives it without blocking (`aio`), and the `tee` command (`_cli`).
"""
