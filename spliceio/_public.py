"""Decorator for public functions and classes: their `__module__` becomes the package.

What a user sees of a name (a traceback, repr, help(), a pickle) then says `spliceio.Pipe`, wherever
in the package it is written. Nothing else changes, and nothing is imported for it.

inspect.getsource works for functions and methods, whose code has its file. For a class it looks
into the file of the module that `__module__` names, and raises OSError, as for any package that
does this; no attribute of a class names another file.
"""

from __future__ import annotations

import sys
from typing import TypeVar

__all__ = ["public"]

_Named = TypeVar("_Named")


def public(named: _Named) -> _Named:
    """Make a function or class a name of `spliceio` or `spliceio.asgi`, where it is written.

    Outermost of its decorators.
    """
    if isinstance(named, type):
        # typing.get_type_hints would look for the names in these in the package, which is lazy.
        space = vars(sys.modules[named.__module__])
        own = {named.__name__: named}
        for name, text in named.__annotations__.items():
            named.__annotations__[name] = eval(text, space, own)
    in_asgi = named.__module__.startswith("spliceio.asgi.")
    named.__module__ = "spliceio.asgi" if in_asgi else "spliceio"
    return named
