"""File descriptor number of an object: `fileno()` is called here, and nowhere else.

Whatever it raises or returns but the number of a descriptor means that there is none.
"""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["in_range", "is_a", "name_of", "number", "reraise_from_handler"]

_INT_MAX = 2**31 - 1


def number(given: Any, where: str) -> int:
    """Return the number of the descriptor of an int or object; `where` begins the messages.

    Raises TypeError for what has none, ValueError for a closed object, and OverflowError for a
    number that no C int holds. A closed socket's, of any library, is -1.
    """
    if isinstance(given, int):
        return in_range(given)
    try:
        found = given.fileno()
    except Exception as error:
        reraise_from_handler(error)
        if isinstance(error, ValueError) and not isinstance(error, OSError):
            raise ValueError(f"{where} is closed: {error}") from None
        raise TypeError(
            f"{where} is a {name_of(given)}, which has no descriptor: fileno() raised {error!r}"
        ) from error
    if not isinstance(found, int) or isinstance(found, bool):
        raise TypeError(
            f"{where} is a {name_of(given)}, which has no descriptor: fileno() returned "
            f"{type(found).__name__}, not int"
        )
    if found < 0 and not (hasattr(given, "recv") or hasattr(given, "send")):
        raise TypeError(
            f"{where} is a {name_of(given)}, which has no descriptor: fileno() returned {found}"
        )
    return in_range(found)


def in_range(fd: int) -> int:
    """Return a descriptor number; raises OverflowError for one that no C int holds."""
    if not -_INT_MAX - 1 <= fd <= _INT_MAX:
        raise OverflowError("Python int too large to convert to C int: no such descriptor")
    return fd


def is_a(given: Any, module: str, name: str) -> bool:
    """Return whether it is an instance of a class, by name: its module is not imported for it."""
    there = getattr(sys.modules.get(module), name, None)
    return isinstance(there, type) and issubclass(type(given), there)


def name_of(given: Any) -> str:
    """Return the name of its class, with the module unless that is a builtin."""
    cls = type(given)
    own = cls.__module__ in ("builtins", "_io")
    return cls.__qualname__ if own else f"{cls.__module__}.{cls.__qualname__}"


def reraise_from_handler(error: Exception) -> None:
    """Raise an exception again that came from a signal handler, not from the object."""
    from .handlers import came_from_handler

    if came_from_handler(error, []):
        raise error
