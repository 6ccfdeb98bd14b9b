"""`Blob`: bytes in a sealed memfd, sent to thousands of sockets without a copy.

Memory that is spliced is not copied: to change it afterwards changes what the receiver reads.
No process can change a memfd that is sealed against writing (F_ADD_SEALS, fcntl(2)), this library
included, so its pages can go to any number of sockets, as often as wanted, at the same time.

Rule 1: a blob is whole and sealed, or there is none.
Rule 2: it says where in the memfd it lies (a Window), and everything below keeps to that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import index
from typing import TYPE_CHECKING, NoReturn, overload

from .._kernel.arguments import FileDescriptorLike, Window
from .._kernel.closing import Closing
from .._kernel.memfd import SealedMemory, new_sealed
from .._public import public
from .._transfer.build import checked_count, make_transfer
from .._transfer.transfer import from_flow, run_and_close

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Blob"]

_SMALL = 64 << 10
_TOGETHER = 1 << 20


@public
class Blob(Window, Closing):
    """Immutable bytes in memory, with a descriptor to send them from.

    `data` is a bytes-like object, or an iterable of them; it is copied once. Give a Blob to
    everything in this library that takes a source, from as many threads as you like: it is sent
    from its own beginning, uses no file position and moves none.

    `blob[a:b]` is a Blob of a part, which shares the memory; `blob[i]` is an int. For calls that
    know nothing of blobs there are `fileno()`, of the whole memory, and `offset`, where in it this
    blob begins. Equal are only a Blob and itself.

    The memory is a memfd (memfd_create(2)) sealed against writing, shrinking, growing and other
    seals; it is freed when the blob and its slices have been closed or collected, no
    transfer sends it any more, and no view is left.

    Raises TypeError for an int, a str, and anything that is no bytes; OSError when there is no
    descriptor (EMFILE, ENFILE), no memory (ENOMEM, ENOSPC), no memfd in this sandbox (ENOSYS), or
    the file size limit of the process is smaller (EFBIG).

    Not promised: memory that does not count. It is charged to the process that made it, as a file
    on tmpfs is, and may be swapped out.
    """

    __slots__ = ("__weakref__", "_length", "_memory", "_offset")

    def __init__(self, data: Buffer | Iterable[Buffer]) -> None:
        with new_sealed() as memory:
            for piece in _pieces(data):
                memory.write(piece)
        self._memory, self._offset, self._length = memory, 0, memory.size

    @classmethod
    def from_file(
        cls,
        file: FileDescriptorLike,
        count: int | None = None,
        *,
        offset: int | None = None,
        timeout: float | None = None,
    ) -> Blob:
        """Make a Blob of the bytes of `file`: `count` of them, or all to its end.

        `file` is anything that `copy` takes as a source: a file, which is read from its position,
        or from `offset` on and then its position stays; a pipe; a stream socket. The bytes do not
        enter user memory where the kernel can. `timeout` is the longest time in seconds without any
        byte coming; None takes the socket's own `settimeout()`, or waits for ever.

        Raises UnexpectedEOF when it ends before `count` bytes, and what `copy` and `Blob` raise.
        Like those of `copy`, the exceptions have `result` and `held`; what had reached the memory
        is gone with it, of a file the position tells how much.
        """
        call = "Blob.from_file"
        with new_sealed() as memory:
            flow, limit = make_transfer(
                file,
                memory.fileno(),
                count,
                offset_src=offset,
                timeout=timeout,
                call=call,
                names=("file", "the blob"),
                offset_names=("offset", "offset"),
            )
            with from_flow(flow, limit, call, checked_count(count)) as transfer:
                known, left = flow.known, transfer.left
                memory.preallocate(known if left < 0 else min(known, left))
                memory.size = run_and_close(transfer).moved
        return _part(memory, 0, memory.size)

    # -- what it is ------------------------------------------------------------------------------

    def fileno(self) -> int:
        """Return the number of the memfd, which a slice has in common with the whole.

        Raises ValueError when the blob is closed.
        """
        return self._memory.fileno()

    @property
    def offset(self) -> int:
        """Where in the memfd the bytes of this blob begin; 0 unless it is a slice."""
        return self._offset

    @property
    def nbytes(self) -> int:
        """How many bytes there are; the same as `len(blob)`."""
        return self._length

    @property
    def closed(self) -> bool:
        """Whether the blob, or one that it shares its memory with, has been closed."""
        return self._memory.closed

    @property
    def view(self) -> memoryview:
        """The bytes as a read-only memoryview, without a copy; it outlives the blob and `close`.

        From Python 3.12 on the blob itself is a bytes-like object, and this is what it exports.
        Raises ValueError when the blob is closed, and OSError when it cannot be mapped; before
        Python 3.13 a mapping takes a descriptor.
        """
        return self._memory.view()[self._offset : self._offset + self._length]

    def __buffer__(self, flags: int, /) -> memoryview:
        return self.view

    def __bytes__(self) -> bytes:
        return bytes(self.view)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        return iter(self.view)

    @overload
    def __getitem__(self, key: int, /) -> int: ...
    @overload
    def __getitem__(self, key: slice, /) -> Blob: ...
    def __getitem__(self, key: int | slice, /) -> int | Blob:
        if not isinstance(key, slice):
            return int(self.view[index(key)])
        start, stop, step = key.indices(self._length)
        if step != 1:
            raise ValueError(f"a slice of a Blob shares its memory: its step is 1, not {step}")
        self._memory.fileno()  # refuses a closed one
        return _part(self._memory, self._offset + start, max(0, stop - start))

    # -- ending it -------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the memfd, for the slices too and for the whole if this is one. Safe to repeat.

        Transfers that are under way and views that are in use keep the memory, and go on.
        """
        self._memory.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Blob cannot be pickled or copied: it is a descriptor of this process. Pass bytes(), "
            "or let a child inherit it by fork"
        )

    def __repr__(self) -> str:
        where = f" at {self._offset}" if self._offset else ""
        return f"<Blob of {self._length} bytes{where}{', closed' if self.closed else ''}>"


def _part(memory: SealedMemory, offset: int, length: int) -> Blob:
    blob = Blob.__new__(Blob)
    blob._memory, blob._offset, blob._length = memory, offset, length
    return blob


# ---- what a blob is made of ---------------------------------------------------------------------


def _pieces(data: object) -> Iterator[memoryview]:
    """Take anything that is bytes apart into flat memory; small pieces come joined."""
    if isinstance(data, str):
        raise TypeError("a Blob is made of bytes: encode the str, as in Blob(text.encode())")
    if isinstance(data, int):
        raise TypeError(
            f"Blob({data}): a size or a descriptor? Pass bytes({data}) for zeros, or use "
            f"Blob.from_file({data})"
        )
    whole = _flat(data)
    if whole is not None:
        yield whole
        return
    if not isinstance(data, Iterable):
        raise TypeError(
            "a Blob is made of a bytes-like object or an iterable of them, not "
            f"{type(data).__name__}"
        )
    pending = bytearray()
    for number, item in enumerate(data):
        piece = _flat(item)
        if piece is None:
            raise TypeError(
                f"a Blob is made of bytes: item {number} is of type {type(item).__name__}"
            )
        is_long = len(piece) > _SMALL
        if not is_long:
            pending += piece
        if is_long or len(pending) >= _TOGETHER:
            yield memoryview(pending)
            pending = bytearray()
        if is_long:
            yield piece
    yield memoryview(pending)


def _flat(data: object) -> memoryview | None:
    """Return the memory of a bytes-like object as single bytes; None if it is none."""
    if isinstance(data, Blob):
        return data.view
    try:
        view = memoryview(data)  # type: ignore[arg-type]
    except TypeError:
        return None
    try:
        return view.cast("B")
    except TypeError:  # not contiguous, or of items that it cannot take apart
        return memoryview(view.tobytes())
