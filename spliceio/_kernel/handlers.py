"""Exceptions of signal handlers, distinguished from those of the object that was called.

Python runs signal handlers between any two steps of the main thread, and what they raise comes out
of whatever was running, as if that had raised it. The traceback tells: the handler's own frame is
in it, and was given the frame that it interrupted.

Rule 1: a handler is what was installed when the call began, or is now: one that puts the old one
back before it raises is known too.
Rule 2: a function that is a handler and is called by the object itself, without a frame, is the
object's own.

Not known: a handler without a frame of its own, which is one in C, and PyThreadState_SetAsyncExc.
"""

from __future__ import annotations

import functools
import signal
import threading
from types import CodeType, FrameType, MethodType
from typing import Any

__all__ = ["came_from_handler", "installed_handlers"]

_SIGNALS = sorted(signal.valid_signals())
_MOST_LAYERS = 20


def installed_handlers() -> list[Any]:
    """Return the signal handlers that may run in this thread: none but in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return []
    return [found for number in _SIGNALS if callable(found := signal.getsignal(number))]


def came_from_handler(error: BaseException, handlers: list[Any]) -> bool:
    """Whether a signal handler has raised this, one of `handlers` or of those installed now."""
    codes = {code for handler in (*handlers, *installed_handlers()) for code in _codes(handler)}
    at = error.__traceback__
    while at is not None:
        if at.tb_frame.f_code in codes and _has_interrupted(at.tb_frame):
            return True
        at = at.tb_next
    return False


def _codes(handler: Any) -> list[CodeType]:
    """Return the code objects that run when it is called, through its wrappers."""
    found: list[CodeType] = []
    for _ in range(_MOST_LAYERS):
        code = getattr(handler, "__code__", None)
        if isinstance(code, CodeType):
            found.append(code)
        if isinstance(handler, MethodType):
            handler = handler.__func__
        elif isinstance(handler, functools.partial):
            handler = handler.func
        elif hasattr(handler, "__wrapped__"):
            handler = handler.__wrapped__
        elif code is None and "__call__" in dir(type(handler)):
            handler = type(handler).__call__
        else:
            break
    return found


def _has_interrupted(frame: FrameType) -> bool:
    """Return whether a handler got the frame it interrupted.

    What it has made of its arguments is its own. Without any argument left that is a frame, one
    that is missing may have been it.
    """
    code, given = frame.f_code, frame.f_locals
    count = code.co_argcount + code.co_kwonlyargcount
    count += bool(code.co_flags & 0x04)  # *args
    names = code.co_varnames[:count]
    values = [given[name] for name in names if name in given]
    flat = [one for value in values for one in (value if isinstance(value, tuple) else (value,))]
    return len(values) < len(names) or any(isinstance(one, FrameType) for one in flat)
