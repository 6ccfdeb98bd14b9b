"""Fan-out: one source copied to many sinks; `fanout` and the result of each sink.

Not here: what drives it without blocking (`aio`), and the `tee` command (`_cli`).
"""
