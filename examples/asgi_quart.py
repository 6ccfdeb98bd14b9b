"""Quart with its static files by sendfile: `python asgi_quart.py DIR [PORT]`.

Quart lets middleware stand before its own `asgi_app`; static_folder is then left to StaticFiles.
"""

from __future__ import annotations

import sys

import uvicorn
from quart import Quart

from spliceio.asgi import StaticFiles, UvicornProtocol


def main(directory: str, port: str = "8000") -> None:
    app = Quart(__name__, static_folder=None)
    pages, static = app.asgi_app, StaticFiles(directory)

    @app.get("/")
    async def hello() -> str:
        return "Hello from Quart\n"

    async def mounted(scope, receive, send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/static/"):
            await static({**scope, "root_path": "/static"}, receive, send)
        else:
            await pages(scope, receive, send)

    app.asgi_app = mounted
    uvicorn.run(app, port=int(port), http=UvicornProtocol)


if __name__ == "__main__":
    main(*sys.argv[1:])
