"""`UvicornProtocol`: uvicorn sends files by sendfile, for every app, by one flag.

It is the protocol class that uvicorn would choose by itself, with two of its parts exchanged: the
app is called with a `send` that knows two messages more, and the transport is an `Outlet`. All
else, parsing above all, is uvicorn's.

Rule 1: a response without a file goes the way it goes in uvicorn; only its head may leave a few
turns of the event loop later, in the segment of the body.
Rule 2: what is relied on in uvicorn is listed in `_NEEDED` and looked for at import; where
something is missing, one sentence says which versions will do.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import stat
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

try:
    import anyio  # noqa: F401 - what sends the files needs it, and this is where that is said
    import uvicorn
    from uvicorn.protocols.http.auto import AutoHTTPProtocol
except ImportError as error:
    raise ImportError(
        "spliceio.asgi.UvicornProtocol needs uvicorn and anyio: pip install 'spliceio[asgi]'",
        name=error.name,
    ) from None

from .._http.place import place_of
from .._kernel import owned
from .._public import public
from .._transfer.build import checked_count, checked_offset
from ._disk import open_path
from ._framing import Parts, h11_parts, httptools_parts
from ._held import HeldFile
from ._outlet import Outlet

# anyio would load this with the first large file, which takes the event loop ten milliseconds.
with contextlib.suppress(ImportError):
    importlib.import_module("anyio._backends._asyncio")

if TYPE_CHECKING:
    _Auto = object

    class _Base:
        app: Any
        loop: Any
        transport: Any

        def __init__(self, *args: Any, **options: Any) -> None: ...
        def connection_made(self, transport: Any) -> None: ...
        def connection_lost(self, exc: Exception | None) -> None: ...
        def handle_websocket_upgrade(self, *args: Any) -> None: ...
else:
    _Auto, _Base = AutoHTTPProtocol, object

__all__ = ["UvicornProtocol"]

OLDEST, NEWEST = "0.36", "0.54"
"""The versions of uvicorn that the test suite runs against."""

Message = MutableMapping[str, Any]
_START = "http.response.start"
_PATHSEND, _ZEROCOPYSEND = "http.response.pathsend", "http.response.zerocopysend"

_PARTS: dict[str, Callable[[Any, int], Parts]] = {
    "h11_impl": h11_parts,
    "httptools_impl": httptools_parts,
}
_CYCLE = {"disconnected", "flow", "keep_alive", "response_complete", "response_started", "scope"}
_NEEDED = {
    "h11_impl": {*_CYCLE, "conn"},
    "httptools_impl": {*_CYCLE, "chunked_encoding", "expected_content_length"},
}
_PROTOCOL = {"app", "config", "loop", "transport"}
_METHODS = ("connection_lost", "connection_made", "handle_websocket_upgrade")


def _why_not(base: Any) -> str | None:
    """Return what is missing in a protocol class of uvicorn; None if it will do."""
    home = base.__module__
    kind = home.rpartition(".")[2]
    if kind not in _PARTS:
        return f"chooses {base.__name__}"
    cycle = getattr(sys.modules[home], "RequestResponseCycle", None)
    for owner, needed in ((base, _PROTOCOL), (cycle, _NEEDED[kind])):
        names = getattr(getattr(getattr(owner, "__init__", None), "__code__", None), "co_names", ())
        if missing := sorted(needed.difference(names)):
            return f"has a {kind} without {', '.join(missing)}"
    if missing := [name for name in _METHODS if not hasattr(base, name)]:
        return f"has a {kind} without {', '.join(missing)}"
    return None


def parts_of(base: Any, version: str) -> Callable[[Any, int], Parts]:
    """Return how files are counted; raises ImportError where this uvicorn will not do."""
    why = _why_not(base)
    if why is None and tuple(map(int, version.split(".")[:2])) < tuple(map(int, OLDEST.split("."))):
        why = "is older"
    if why is not None:
        raise ImportError(
            f"spliceio.asgi.UvicornProtocol works with uvicorn {OLDEST} to {NEWEST} and later "
            f"versions like them; this is uvicorn {version}, which {why}",
            name="uvicorn",
        )
    return _PARTS[base.__module__.rpartition(".")[2]]


class Sending(_Base):
    """What is exchanged in a protocol class of uvicorn; stands before it among the bases."""

    _parts: Callable[[Any, int], Parts]
    _outlet_of = Outlet

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._outlet: Any = None
        self._app, self.app = self.app, self._answer

    def connection_made(self, transport: Any) -> None:
        """Begin a connection."""
        self._outlet = self._outlet_of(transport, self.loop)
        super().connection_made(self._outlet)

    def connection_lost(self, exc: Exception | None) -> None:
        """End a connection."""
        super().connection_lost(exc)
        self.app = self._app  # no cycle is left for the collector

    def handle_websocket_upgrade(self, *args: Any) -> None:
        """Hand the connection over, with the transport that is the event loop's."""
        if self._outlet.is_sending:  # asked for ahead of the end of a response
            self._outlet.under.abort()
            return
        self._outlet.flush()
        self.transport = self._outlet.under
        super().handle_websocket_upgrade(*args)

    async def _answer(self, scope: Message, receive: Any, send: Any) -> Any:
        extensions = scope.get("extensions") or {}
        scope["extensions"] = {**extensions, _PATHSEND: {}, _ZEROCOPYSEND: {}}
        response = _Response(self._outlet, send.__self__, send, self._parts)
        return await self._app(scope, receive, response.send)


class _Response:
    """One response: passes messages on to uvicorn, and sends files."""

    __slots__ = ("_cycle", "_outlet", "_parts", "_send")

    def __init__(
        self,
        outlet: Outlet,
        cycle: Any,
        send: Callable[[Message], Awaitable[None]],
        parts: Callable[[Any, int], Parts],
    ) -> None:
        self._outlet, self._cycle, self._send, self._parts = outlet, cycle, send, parts

    async def send(self, message: Message) -> None:
        """Send a message of ASGI."""
        kind = message["type"]
        if kind == _PATHSEND:
            await self._path(message["path"])
        elif kind == _ZEROCOPYSEND:
            await self._file(message)
        elif kind == _START:
            self._outlet.expect_head()
            await self._send(message)
        else:
            await self._send(message)
            self._outlet.flush()  # of a response without a body

    async def _path(self, path: str) -> None:
        if self._takes_file(_PATHSEND):
            self._outlet.keep_head()
            try:
                owner = await open_path(path)
            except BaseException:
                self._outlet.release_head()
                raise
            try:
                status = os.fstat(owner.fd)
                if not stat.S_ISREG(status.st_mode):
                    raise ValueError(f"{_PATHSEND}: {path!r} is no regular file")
                await self._part(int(owner.fd), 0, status.st_size)
            finally:
                owned.close(owner)
        await self._done(False)

    async def _file(self, message: Message) -> None:
        if self._takes_file(_ZEROCOPYSEND):
            file = message["file"]
            if type(file) is HeldFile:  # of StaticFiles, which has looked at it
                await self._part(file.fd, message["offset"], message["count"])
                await self._done(message["more_body"])
                return
            offset, count = message.get("offset"), message.get("count")
            offset = None if offset is None else checked_offset(offset)
            place = place_of(file, _ZEROCOPYSEND, offset, checked_count(count))
            await self._part(place.fd, place.begin, place.most)
            if offset is None:
                place.move(place.most)
        await self._done(message.get("more_body", False))

    def _takes_file(self, kind: str) -> bool:
        """Return whether a file is to be sent now; raises where uvicorn would, for a body."""
        cycle = self._cycle
        if cycle.disconnected:
            return False
        if not cycle.response_started:
            raise RuntimeError(f"Expected ASGI message '{_START}', but got '{kind}'.")
        if cycle.response_complete:
            raise RuntimeError(
                f"Unexpected ASGI message '{kind}' sent, after response already completed."
            )
        return bool(cycle.scope["method"] != "HEAD")

    async def _part(self, fd: int, offset: int, count: int) -> None:
        if not count:
            return
        cycle, outlet = self._cycle, self._outlet
        if outlet.is_sending:
            raise RuntimeError("A file is being sent in this response")
        before, after = self._parts(cycle, count)
        if not await outlet.send_file(cycle.flow, fd, offset, count, before, after):
            cycle.disconnected = True
        elif outlet.closes_later:
            cycle.keep_alive = False

    async def _done(self, more: bool) -> None:
        if not more:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
            self._outlet.flush()


@public
class UvicornProtocol(Sending, _Auto):
    """HTTP protocol class of uvicorn that sends files by sendfile.

    `uvicorn app:app --http spliceio.asgi:UvicornProtocol`, or `uvicorn.run(app,
    http=UvicornProtocol)`. It is the class that uvicorn's `--http auto` chooses, httptools where
    that is installed and h11 otherwise, and every scope of type "http" has two extensions more
    (ASGI specification, Extensions):

    `http.response.pathsend`, with `path`: the whole file, and the end of the response. That is
    what FileResponse of Starlette and FastAPI sends when it may.

    `http.response.zerocopysend`, with `file`, and optionally `offset`, `count` and `more_body`:
    a part of an open file, which stays the app's to close. `file` has `fileno()`, or is an int.
    Without `offset` it is sent from its position on, which moves; without `count` to its end. It
    may stand among other messages of a body, any number of times.

    A small file leaves with the head, in one write; one above 256 KiB is sent by the engines of
    `spliceio.aio`, in threads of C. A file that has to be read from its disk holds up its own
    response and not the event loop. The message returns when all has been given to the kernel.
    With TLS, files are copied, which the log says once.

    Sending raises OSError for a path that cannot be opened, and TypeError or ValueError for what
    is no regular file: nothing has been sent of it, and another body may follow. A file that
    becomes shorter, or cannot be read, ends the connection, and so does one that is longer or
    shorter than Content-Length.
    """

    _parts = staticmethod(parts_of(AutoHTTPProtocol, uvicorn.__version__))
