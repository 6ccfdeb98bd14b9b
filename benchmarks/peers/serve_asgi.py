"""Serve the files of a folder by an ASGI app under uvicorn, until killed.

usage: serve_asgi.py PORT FOLDER APP PROTOCOL

APP is "response" (Starlette's FileResponse), "starlette" (its StaticFiles), "ours"
(spliceio.asgi.StaticFiles) or "nothing" (the bytes of FOLDER/file, from memory). PROTOCOL is "ours"
or "plain": uvicorn's own. GET /stall says how long, in milliseconds, the event loop has not come to
its turn at the most since it was asked last, not counting the time in which the kernel had no
processor for it.
"""

import asyncio
import os
import sys
import time

import uvicorn
from starlette.applications import Starlette
from starlette.responses import FileResponse, PlainTextResponse
from starlette.routing import Mount, Route

port, folder, which, protocol = sys.argv[1:]
TICK = 0.0005


class Meter:
    """The longest time between two turns of the event loop."""

    def __init__(self) -> None:
        self.longest, self.task = 0.0, None

    async def run(self) -> None:
        with open("/proc/thread-self/schedstat", "rb", buffering=0) as file:

            def delayed() -> float:
                file.seek(0)
                return int(file.read().split()[1]) / 1e9

            while True:
                before, waited = time.monotonic(), delayed()
                await asyncio.sleep(TICK)
                took, waited = time.monotonic() - before, delayed() - waited
                self.longest = max(self.longest, took - waited - TICK)

    async def answer(self, request) -> PlainTextResponse:
        if self.task is None:
            self.task = asyncio.ensure_future(self.run())
        longest, self.longest = self.longest, 0.0
        return PlainTextResponse(f"{longest * 1e3:.3f}")


async def respond(request) -> FileResponse:
    return FileResponse(os.path.join(folder, request.path_params["name"]))


meter = Meter()
if which == "ours":
    from spliceio.asgi import StaticFiles
elif which == "starlette":
    from starlette.staticfiles import StaticFiles

if which == "response":
    app = Starlette(routes=[Route("/stall", meter.answer), Route("/{name}", respond)])
elif which == "nothing":
    with open(os.path.join(folder, "file"), "rb") as file:
        data = file.read()
    fields = [(b"content-length", b"%d" % len(data))]

    async def app(scope, receive, send) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": fields})
            await send({"type": "http.response.body", "body": data})

else:
    files = StaticFiles(directory=folder)
    mounted = Starlette(routes=[Route("/stall", meter.answer), Mount("/", files)])

    async def app(scope, receive, send) -> None:
        # Both by themselves, as the faster way to run them; /stall needs the router.
        by_itself = scope["type"] == "http" and scope["path"] != "/stall"
        await (files if by_itself else mounted)(scope, receive, send)


http = "auto"
if protocol == "ours":
    from spliceio.asgi import UvicornProtocol as http
uvicorn.run(app, port=int(port), http=http, access_log=False, log_level="warning")
