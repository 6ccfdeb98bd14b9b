"""Zero-copy I/O on Linux: splice, tee, vmsplice and sendfile, and what is built on them.

The package loads its parts on first use, so that importing it costs next to nothing. Everything
public is a name of this module; modules that begin with an underscore are not.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

_WHERE: dict[str, tuple[str, ...]] = {}
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names}

__all__ = [
    "__version__",
    *sorted(_MODULE_OF),
]


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'spliceio' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"spliceio.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
