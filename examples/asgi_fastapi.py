"""FastAPI whose files leave by sendfile: `python asgi_fastapi.py DIR [PORT]`.

The app is any FastAPI app; the server is started with `http=UvicornProtocol`. /static/ is a
directory that is mounted, with a listing; /film/NAME is a FileResponse behind a check.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import uvicorn
from fastapi import FastAPI, Header, HTTPException
from fastapi.responses import FileResponse

from spliceio.asgi import StaticFiles, UvicornProtocol

Ticket = Annotated[str, Header()]


def main(directory: str, port: str = "8000") -> None:
    app = FastAPI()
    app.mount("/static", StaticFiles(directory, listing=True))

    @app.get("/film/{name}")
    def film(name: str, ticket: Ticket = "") -> FileResponse:
        path = os.path.join(directory, os.path.basename(name))
        if not ticket:
            raise HTTPException(402, "a film needs a ticket")
        if not os.path.isfile(path):
            raise HTTPException(404, "no such film")
        return FileResponse(path)

    uvicorn.run(app, port=int(port), http=UvicornProtocol)


if __name__ == "__main__":
    main(*sys.argv[1:])
