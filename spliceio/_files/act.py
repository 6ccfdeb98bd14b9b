"""The first try of a copy: a small file to a path, in one entry into C.

Rule 1: what it does is done; of what it does not do, nothing is there, and the long way has the
words, the options, and all that is unusual.
Rule 2: in one call, so that no signal handler can raise between two steps of it.
"""

from __future__ import annotations

import os
import re
from time import monotonic
from typing import TYPE_CHECKING, Any

from .._cffi import ffi, lib
from .._kernel import errors
from .._transfer.plan import NAMES
from .._transfer.result import Fallback
from .result import CopyResult

if TYPE_CHECKING:
    from .._cffi import struct_sio_file_copy_ptr

__all__ = ["copied"]

_SHIFT: int = lib.SIO_ACT_SHIFT
_MASK = (1 << _SHIFT) - 1
_copy = lib.sio_copy_file
_blank = CopyResult.__new__

_OPTIONS = {
    "mode": lib.SIO_FILE_MODE,
    "ownership": lib.SIO_FILE_OWNER,
    "timestamps": lib.SIO_FILE_TIMES,
    "xattr": lib.SIO_FILE_XATTRS,
}
_KERNEL = tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])
_ALWAYS: int = 0 if _KERNEL >= (6, 0) else lib.SIO_FILE_NAMED
"""Before Linux 6.0 a file without a name did not get the umask on every filesystem."""
_spare: list[struct_sio_file_copy_ptr] = []
"""Structs that nobody uses now: a call takes one, and gives it back when it is done."""
_MOST_SPARE = 8
_refusals: dict[int, tuple[Fallback, ...]] = {0: ()}
"""What the result says of a refused reflink, by its errno."""


def copied(src: Any, dst: Any, overwrite: bool, preserve: frozenset[str]) -> CopyResult | None:
    """Copy, with these attributes; None where that cannot be done here, and nothing has been."""
    begun = monotonic()
    from_, to = _path(src), _path(dst)
    if from_ is None or to is None:
        return None
    try:
        c = _spare.pop()
    except IndexError:
        c = ffi.new("struct sio_file_copy *")
    options = _ALWAYS | (lib.SIO_FILE_OVERWRITE if overwrite else 0)
    for name in preserve:
        options |= _OPTIONS[name]
    done = _copy(c, from_, to, options)
    refused = c.refused
    if len(_spare) < _MOST_SPARE:
        _spare.append(c)
    if done < 0:
        return None
    moved, method = done >> _SHIFT, NAMES[done & _MASK]
    # A frozen dataclass without its __init__, which takes as long as a system call.
    result = _blank(CopyResult)
    result.__dict__.update(
        moved=moved,
        method=method,
        seconds=monotonic() - begun,
        fallbacks=_refusals[refused] if refused in _refusals else _refusal(refused),
        by_method={method: moved} if moved else {},
        holes=0,
        in_place="",
        not_preserved=(),
    )
    return result


def _path(path: Any) -> bytes | None:
    """Return a path as the kernel takes it; None for what is none."""
    kind = type(path)
    if kind is not str and kind is not bytes and not isinstance(path, str | bytes | os.PathLike):
        return None
    name = os.fsencode(path)
    return None if b"\0" in name else name


def _refusal(err: int) -> tuple[Fallback, ...]:
    why = errors.reason_for("reflink", err).partition("; ")[0]
    return _refusals.setdefault(err, (Fallback("reflink", err, why),))
