"""Files over ASGI by sendfile: `UvicornProtocol` for the server, `StaticFiles` for the app.

`uvicorn app:app --http spliceio.asgi:UvicornProtocol` gives every app of uvicorn the extensions
`http.response.pathsend` and `http.response.zerocopysend` of the ASGI specification: a FileResponse
of Starlette or FastAPI leaves by sendfile, without a change to the app. `StaticFiles(directory)` is
an app for a directory, on any server.

It needs `pip install 'spliceio[asgi]'`. Both names are loaded on first use: uvicorn only for
`UvicornProtocol`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._static import StaticFiles as StaticFiles
    from ._uvicorn import UvicornProtocol as UvicornProtocol

__all__ = ["StaticFiles", "UvicornProtocol"]

_WHERE = {"StaticFiles": "_static", "UvicornProtocol": "_uvicorn"}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
