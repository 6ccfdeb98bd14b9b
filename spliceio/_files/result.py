"""Result of a whole file's copy."""

from __future__ import annotations

from dataclasses import dataclass

from .._public import public
from .._transfer.result import TransferResult

__all__ = ["CopyResult"]


@public
@dataclass(frozen=True)
class CopyResult(TransferResult):
    """The result of `copy_file`.

    `holes` is in bytes: what neither file has blocks for. `method` may also be "reflink": both
    files share their blocks, holes among them and counted as moved, until one is written to.
    `in_place` says why `dst` was written in place, and is empty if a new file took its name.
    `not_preserved` has a line for each attribute that `preserve` allowed the kernel to refuse, and
    that it refused: "ownership: Operation not permitted".
    """

    holes: int = 0
    in_place: str = ""
    not_preserved: tuple[str, ...] = ()
