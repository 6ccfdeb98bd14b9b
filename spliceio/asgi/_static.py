"""`StaticFiles`: a directory as an ASGI app, on any server.

Rule 1: whatever is asked for, the answer is one response with a status that fits; nothing is
raised for what a client sends, or for what is in the directory.
Rule 2: what may take a disk is done in another thread; what is in memory, at once.
Rule 3: a response is of one version of a file: head and bytes come from the same open file.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from http import HTTPStatus
from typing import Any

try:
    import anyio.to_thread
except ImportError as error:
    raise ImportError(
        "spliceio.asgi.StaticFiles needs anyio: pip install 'spliceio[asgi]'", name=error.name
    ) from None

from .._http.body import Body
from .._http.conditional import decide
from .._http.docroot import BadTarget, Docroot, Target
from .._http.file import Path, refuse_line_breaks, status_of, validator_fields
from .._http.pages import INDEX, listing, type_of
from .._public import public
from ._disk import copy_blocks
from ._held import Fields, HeldFile, Recent
from ._request import Asked, codings, key_of, location, target_of

__all__ = ["StaticFiles"]

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_ZEROCOPYSEND = "http.response.zerocopysend"
_CONDITIONAL = frozenset(
    [b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"range"]
)
_CODINGS = {"br": ".br", "zstd": ".zst", "gzip": ".gz"}
"""In the order in which they are taken, if the client has no preference."""
_FULL = (errno.EMFILE, errno.ENFILE)


@public
class StaticFiles:
    """An ASGI app that serves the files of a directory, by sendfile where the server has it.

    On a server with the extension `http.response.zerocopysend`, as `UvicornProtocol` gives it to
    uvicorn, files leave past user memory; on any other they are read and sent in blocks.

    Only GET and HEAD are answered with files. Sent with each: Content-Length, Last-Modified, a
    strong ETag, Accept-Ranges. Honoured: If-Match, If-Unmodified-Since, If-None-Match,
    If-Modified-Since, If-Range, and Range in GET: one range as 206, up to 16 as
    multipart/byteranges, none in the file as 416.

    A directory is answered with the first of `index` that it has; without one, with a `listing` of
    its names if that is True, and with 404 otherwise. `dotfiles` says whether names that begin
    with a dot are served; those below /.well-known/ always are. `cache_control` is the value of
    that field: for all files, or a function that is given the path below the directory, as
    "assets/app.js", and returns the value or None. `headers` are more (name, value) pairs for
    every response with a file. `types` adds to the types that Python knows, by suffix: {".glb":
    "model/gltf-binary"}. Text is said to be in `charset`, unless that is None. With
    `precompressed`, `name.br`, `name.zst` or `name.gz` beside a file is sent in its place, to
    clients that take it, if it is not older; such files of other names are not hidden.

    Nothing outside of the directory is served: the kernel refuses ".." and symbolic links that
    lead out (openat2(2), RESOLVE_BENEATH). The name of the directory is looked up again for each
    file, so that it may be a link that is swapped; with `pin` it stays the directory that it was.

    Up to `open_files` files that were asked for stay open, and are checked by one stat(2) when
    they are asked for again.

    Raises OSError if the directory is missing, ValueError for line breaks in a header.
    """

    def __init__(
        self,
        directory: Path,
        *,
        index: Sequence[str] = INDEX,
        listing: bool = False,
        dotfiles: bool = False,
        cache_control: str | Callable[[str], str | None] | None = None,
        headers: Iterable[tuple[str, str]] = (),
        types: Mapping[str, str] | None = None,
        charset: str | None = "utf-8",
        precompressed: bool = False,
        open_files: int = 256,
        pin: bool = False,
    ) -> None:
        if open_files < 0:
            raise ValueError(f"open_files cannot be negative (got {open_files})")
        more = list(headers)
        kinds = {suffix.lower(): kind for suffix, kind in (types or {}).items()}
        refuse_line_breaks(charset or "", [*more, *kinds.items()])
        self._more, self._types = _encoded(more), kinds
        self._docroot = Docroot(directory, pin=pin)
        self._index = tuple(map(os.fsencode, index))
        self._lists, self._dotfiles = listing, dotfiles
        self._cache_control = cache_control
        self._charset, self._precompressed = charset, precompressed
        self._recent = Recent(open_files)

    def close(self) -> None:
        """Close the directory and the files that are kept open; safe to repeat."""
        self._recent.clear()
        self._docroot.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; as an app by itself also take part in the lifespan protocol."""
        if scope["type"] == "http":
            if scope["method"] in ("GET", "HEAD"):
                await self._answer(scope, send)
            else:
                await self._page(scope, send, 405, fields=[(b"allow", b"GET, HEAD")])
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})
        else:
            await self._live(receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            kind = (await receive())["type"]
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                self._recent.clear()
                return

    # -- finding -----------------------------------------------------------------------------------

    async def _answer(self, scope: Scope, send: Send) -> None:
        key = key_of(scope)
        held = self._recent.get(key)
        if held is None:
            try:
                wanted = target_of(scope)
                found = await self._find(key, wanted)
            except BadTarget as error:
                await self._page(scope, send, 400, str(error))
                return
            except OSError as error:
                await self._page(scope, send, status_of(error))
                return
            if not isinstance(found, HeldFile):
                await self._directory(scope, send, wanted, found)
                return
            held = found
        if self._precompressed:
            held = await self._coded_form(scope, held)
        await self._file(scope, send, held)

    async def _find(self, key: tuple[object, ...], wanted: Target) -> HeldFile | bytes | None:
        """Find a file; return the page of a directory's listing, or None where one has no slash."""
        if not self._dotfiles and _is_hidden(wanted.names):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        try:
            return self._found(key, wanted, True)
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno not in _FULL or not self._recent.clear():
                raise
        return await anyio.to_thread.run_sync(self._found, key, wanted, False)

    def _found(
        self, key: tuple[object, ...], wanted: Target, cached: bool
    ) -> HeldFile | bytes | None:
        opened = self._docroot.open(wanted.names, slash=wanted.slash, cached=cached)
        if not opened.is_directory:
            return self._hold(key, wanted.names, opened.fd, opened.status)
        try:
            if not wanted.slash:
                return None
            for number, name in enumerate(self._index):
                names = (*wanted.names, name)
                try:
                    index = self._docroot.open(names, cached=cached)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                if index.is_directory:
                    os.close(index.fd)
                    continue
                # A name that is preferred to this one may come.
                return self._hold(None if number else key, names, index.fd, index.status)
            if not self._lists:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            if cached:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            return listing(wanted.path, opened.fd, dotfiles=self._dotfiles)
        finally:
            os.close(opened.fd)

    def _hold(
        self,
        key: tuple[object, ...] | None,
        names: tuple[bytes, ...],
        fd: int,
        status: os.stat_result,
    ) -> HeldFile:
        held = HeldFile(fd, status, names, self._docroot.path_of(names))
        held.kind = self._type_of(os.fsdecode(names[-1]))
        fields = validator_fields(held.now)
        control = self._cache_control
        if callable(control):
            control = control(os.fsdecode(b"/".join(names)))
        if control is not None:
            refuse_line_breaks(control, [])
            fields.append(("Cache-Control", control))
        if self._precompressed:
            fields.append(("Vary", "Accept-Encoding"))
        held.fields = _encoded(fields) + self._more
        held.whole = _encoded(Body(fd, held.size, held.kind).fields) + held.fields
        if key is not None:
            self._recent.add(key, held)
        return held

    def _type_of(self, name: str) -> str:
        kind = self._types.get(os.path.splitext(name)[1].lower()) or type_of(name)
        if self._charset is not None and kind.startswith("text/") and "charset" not in kind:
            kind += f"; charset={self._charset}"
        return kind

    # -- a coding of it ----------------------------------------------------------------------------

    async def _coded_form(self, scope: Scope, held: HeldFile) -> HeldFile:
        """Return the smaller form of a file that the client likes best, or the file."""
        values = Asked(scope["headers"]).get_all("accept-encoding")
        if values is None:
            return held
        weights = codings(",".join(values))
        others = weights.get("*", 0.0)
        liked = {name: weights.get(name, others) for name in _CODINGS}
        plain = weights.get("identity", others if "*" in weights else 0.001)
        for name in sorted(_CODINGS, key=liked.__getitem__, reverse=True):
            if not liked[name] or liked[name] < plain:
                break
            found = await self._coded(held, name)
            if found is not None:
                return found
        return held

    async def _coded(self, plain: HeldFile, coding: str) -> HeldFile | None:
        key = (*plain.names, coding)
        held = self._recent.get(key)
        if held is None:
            names = (*plain.names[:-1], plain.names[-1] + _CODINGS[coding].encode())
            try:
                try:
                    opened = self._docroot.open(names, cached=True)
                except BlockingIOError:
                    opened = await anyio.to_thread.run_sync(self._docroot.open, names)
            except OSError:
                return None
            if opened.is_directory:
                os.close(opened.fd)
                return None
            held = self._hold(None, names, opened.fd, opened.status)
            body = Body(held.fd, held.size, plain.kind)
            held.kind = plain.kind
            held.fields.append((b"content-encoding", coding.encode()))
            held.whole = _encoded(body.fields) + held.fields
            self._recent.add(key, held)
        return held if held.now.modified >= plain.now.modified else None

    # -- answering ---------------------------------------------------------------------------------

    async def _file(self, scope: Scope, send: Send, held: HeldFile) -> None:
        for name, _ in scope["headers"]:
            if name in _CONDITIONAL:
                await self._conditional(scope, send, held)
                return
        await _start(send, 200, held.whole)
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await _part(scope, send, held, 0, held.size, False)

    async def _conditional(self, scope: Scope, send: Send, held: HeldFile) -> None:
        method = scope["method"]
        code, wanted = decide(method, Asked(scope["headers"]), held.now, held.size)
        if code in (304, 412):
            await _bare(send, code, held.fields)
        elif code == 416:
            await _bare(send, code, [(b"content-range", b"bytes */%d" % held.size)])
        else:
            body = Body(held.fd, held.size, held.kind, wanted)
            await _start(send, code, _encoded(body.fields) + held.fields)
            if method == "HEAD":
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            for part, (offset, count) in zip(body.parts, body.ranges, strict=True):
                if part:
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                await _part(scope, send, held, offset, count, bool(body.end))
            if body.end:
                await send({"type": "http.response.body", "body": body.end, "more_body": False})

    async def _directory(
        self, scope: Scope, send: Send, wanted: Target, page: bytes | None
    ) -> None:
        if page is None:
            await _bare(send, 301, [(b"location", location(scope, wanted).encode("latin-1"))])
        else:
            await _text(scope, send, 200, b"text/html; charset=utf-8", page, [])

    async def _page(
        self, scope: Scope, send: Send, code: int, why: str = "", fields: Fields | None = None
    ) -> None:
        """Answer with a status and a line of text."""
        text = why or HTTPStatus(code).description
        page = f"{code}: {text}\n".encode()
        await _text(scope, send, code, b"text/plain; charset=utf-8", page, fields or [])


def _is_hidden(names: tuple[bytes, ...]) -> bool:
    """Return whether a name begins with a dot; .well-known is for everybody (RFC 8615)."""
    if names[:1] == (b".well-known",):
        names = names[1:]
    return any(name.startswith(b".") for name in names)


def _encoded(fields: Iterable[tuple[str, str]]) -> Fields:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in fields]


async def _start(send: Send, code: int, fields: Fields) -> None:
    # A list of its own: middleware changes it.
    await send({"type": "http.response.start", "status": code, "headers": [*fields]})


async def _bare(send: Send, code: int, fields: Fields) -> None:
    length = [] if code == 304 else [(b"content-length", b"0")]
    await _start(send, code, fields + length)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _text(
    scope: Scope, send: Send, code: int, kind: bytes, page: bytes, fields: Fields
) -> None:
    length = b"%d" % len(page)
    await _start(send, code, [(b"content-type", kind), (b"content-length", length), *fields])
    body = b"" if scope["method"] == "HEAD" else page
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _part(
    scope: Scope, send: Send, held: HeldFile, offset: int, count: int, more: bool
) -> None:
    if count and _ZEROCOPYSEND in (scope.get("extensions") or ()):
        await send(
            {
                "type": _ZEROCOPYSEND,
                "file": held,
                "offset": offset,
                "count": count,
                "more_body": more,
            }
        )
        return

    async def put(data: bytes, left: int) -> None:
        await send({"type": "http.response.body", "body": data, "more_body": more or left > 0})

    await copy_blocks(held.fd, offset, count, put)
    if not count and not more:
        await put(b"", 0)
