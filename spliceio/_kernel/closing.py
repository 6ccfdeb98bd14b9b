"""Base class of objects with `close()`: the `with` statement closes them."""

from __future__ import annotations

from types import TracebackType
from typing import TypeVar

__all__ = ["Closing"]

_Self = TypeVar("_Self")


class Closing:
    """A context manager: `close()` at the end of the block, whatever happens in it."""

    __slots__ = ()

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it; safe to repeat."""
        raise NotImplementedError
