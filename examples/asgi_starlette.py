"""Starlette whose files leave by sendfile: `python asgi_starlette.py DIR [PORT]`.

Both ways: /film/NAME is a FileResponse, as in any app, and /static/ is the directory. The server
makes the difference: `http=UvicornProtocol`, or `--http spliceio.asgi:UvicornProtocol` in a shell.
"""

from __future__ import annotations

import os
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Mount, Route

from spliceio.asgi import StaticFiles, UvicornProtocol


def main(directory: str, port: str = "8000") -> None:
    async def film(request: Request) -> FileResponse:
        name = os.path.basename(request.path_params["name"])
        return FileResponse(os.path.join(directory, name), filename=name)

    static = StaticFiles(directory, cache_control="max-age=3600", precompressed=True)
    app = Starlette(routes=[Route("/film/{name}", film), Mount("/static", static)])
    uvicorn.run(app, port=int(port), http=UvicornProtocol)


if __name__ == "__main__":
    main(*sys.argv[1:])
