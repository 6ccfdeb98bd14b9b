"""`spliceio serve` and Chromium: pages, pictures, parts, downloads that resume, listings."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import re
import socket
import struct
import subprocess
import zlib
from pathlib import Path

import pytest

from tests.support.commands import HANG
from tests.support.programs import need
from tests.support.served import BIG, Served, filled, serving
from tests.support.states import Worker, until
from tests.support.wires import MIB


@pytest.fixture
def root(tmp_path):
    """Such a directory."""
    return filled(tmp_path)


@pytest.fixture
def server(root):
    """The directory, served."""
    with serving(root) as server:
        yield server


class Browser:
    """A headless Chromium, driven through its debugging pipe."""

    def __init__(self, profile: Path) -> None:
        program = need("chromium", "google-chrome")
        self._in, ours_in = os.pipe()
        ours_out, self._out = os.pipe()
        script = f'exec 3<&{ours_out} 4>&{ours_in}; exec "$@"'
        self.process = subprocess.Popen(
            [
                "bash", "-c", script, "-", program, "--headless", "--no-sandbox", "--disable-gpu",
                f"--user-data-dir={profile}", "--remote-debugging-pipe",
            ],
            pass_fds=[ours_in, ours_out], stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(ours_in)
        os.close(ours_out)
        self._stream = os.fdopen(self._in, "rb", buffering=0)
        self._ahead = b""
        self._count = 0

    def call(self, method: str, session: str | None = None, **params) -> dict:
        """Give an order, and wait for its result."""
        self._count += 1
        order = {"id": self._count, "method": method, "params": params}
        if session is not None:
            order["sessionId"] = session
        os.write(self._out, json.dumps(order).encode() + b"\0")
        while (message := self.next()).get("id") != self._count:
            pass
        assert "result" in message, message
        return message["result"]

    def next(self) -> dict:
        """Wait for the next thing that it says."""
        while b"\0" not in self._ahead:
            data = self._stream.read(65536)
            assert data, "the browser has ended"
            self._ahead += data
        message, _, self._ahead = self._ahead.partition(b"\0")
        return json.loads(message)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._stream.close()
        os.close(self._out)


def png(width: int) -> bytes:
    """Make a white picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, width, 8, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\xff" * (3 * width)) * width)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


PAGE = """<!DOCTYPE html><meta charset="utf-8"><title>t</title>
<img src="a%20picture.png" onload="say('image ' + this.naturalWidth)">
<script>
function say(what) { document.body.append('[' + what + ']') }
async function get(path, headers) {
  const got = await fetch(path, {headers, cache: 'no-store'})
  const bytes = new Uint8Array(await got.arrayBuffer())
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))
  say(got.status + ' ' + path + ' ' + Array.from(hash, b => b.toString(16).padStart(2, 0)).join(''))
}
get('big.bin').then(() => get('big.bin', {Range: 'bytes=5-99999'}))
</script>"""


def test_a_page_in_chromium(server):
    """A page, a picture with a space in its name, a file and a part of it, as a browser does."""
    (server.root / "index.html").write_text(PAGE)
    (server.root / "a picture.png").write_bytes(png(7))
    command = [
        need("chromium", "google-chrome"), "--headless", "--no-sandbox", "--disable-gpu",
        f"--user-data-dir={server.root.parent}/profile", "--virtual-time-budget=20000",
        "--dump-dom", f"{server.url}/",
    ]  # fmt: skip
    dom = subprocess.run(command, capture_output=True, timeout=HANG, check=True).stdout.decode()
    assert "[image 7]" in dom
    assert f"[200 big.bin {hashlib.sha256(BIG).hexdigest()}]" in dom
    assert f"[206 big.bin {hashlib.sha256(BIG[5:100_000]).hexdigest()}]" in dom


def test_chromium_resumes_a_download(server, tmp_path):
    """Cut off in the middle, it asks for the rest with If-Range, and the file is whole."""
    (server.root / "start.html").write_text(
        "<!DOCTYPE html><a id=a href=big.bin download></a><script>a.click()</script>"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as stack:
        seen: list[bytes] = []
        relay = Worker(lambda: cut_once(listener, server, seen))
        stack.callback(relay.join)
        stack.callback(listener.shutdown, socket.SHUT_RDWR)
        browser = Browser(tmp_path / "profile")
        stack.callback(browser.close)
        browser.call(
            "Browser.setDownloadBehavior",
            behavior="allow", downloadPath=str(tmp_path / "downloads"), eventsEnabled=True,
        )  # fmt: skip
        port = listener.getsockname()[1]
        browser.call("Target.createTarget", url=f"http://127.0.0.1:{port}/start.html")
        state = ""
        while state != "completed":
            state = browser.next().get("params", {}).get("state", "")
            assert state != "canceled"
    assert (tmp_path / "downloads" / "big.bin").read_bytes() == BIG
    resumed = [request for request in seen if b"\r\nRange: bytes=" in request]
    assert len(resumed) == 1
    assert re.search(rb'\r\nIf-Range: "[0-9a-f]+-1000000"\r\n', resumed[0])


def cut_once(listener: socket.socket, server: Served, seen: list[bytes]) -> None:
    """Pass requests on, one a connection; end the first answer that is long in its middle."""
    cut = False
    with contextlib.suppress(OSError):
        while True:
            client, _ = listener.accept()
            with client, contextlib.suppress(ConnectionError):
                request = b""
                while b"\r\n\r\n" not in request and (more := client.recv(65536)):
                    request += more
                seen.append(request)
                answer = server.raw(request.replace(b"keep-alive", b"close"))
                short = b"/big.bin" in request and not cut
                cut = cut or short
                client.sendall(answer[: 5 * MIB] if short else answer)


BROWSER = """\
Connection: keep-alive\r
sec-ch-ua-platform: "Linux"\r
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
HeadlessChrome/156.0.0.0 Safari/537.36\r
sec-ch-ua: "Not:A-Brand";v="8", "Chromium";v="156"\r
sec-ch-ua-mobile: ?0\r
Accept: */*\r
Sec-Fetch-Site: same-origin\r
Sec-Fetch-Mode: no-cors\r
Sec-Fetch-Dest: video\r
Referer: http://127.0.0.1:8177/\r
Accept-Language: en-US,en;q=0.9\r
"""


def test_what_a_browser_asks_for_a_video(server):
    """Recorded from Chromium: the whole of it as a range, then, after a jump, the rest of it."""
    with server.connect() as sock, sock.makefile("rb") as stream:
        for first in (0, 16 * MIB - 100_000):
            more = f"Accept-Encoding: identity\r\nRange: bytes={first}-\r\n"
            sock.sendall(f"GET /big.bin HTTP/1.1\r\nHost: x\r\n{BROWSER}{more}\r\n".encode())
            assert stream.readline() == b"HTTP/1.1 206 Partial Content\r\n"
            headers = http.client.parse_headers(stream)
            assert headers["Content-Range"] == f"bytes {first}-{16 * MIB - 1}/{16 * MIB}"
            assert stream.read(int(headers["Content-Length"])) == BIG[first:]


# -- driven ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def page(profile: Path, url: str):
    """Open a page; yields a function that runs JavaScript in it and returns what that promises."""
    with contextlib.closing(Browser(profile)) as browser:
        target = browser.call("Target.createTarget", url=url)["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=target, flatten=True)
        session = attached["sessionId"]

        def run(script: str):
            answer = browser.call(
                "Runtime.evaluate", session, expression=script, awaitPromise=True,
                returnByValue=True,
            )  # fmt: skip
            assert "exceptionDetails" not in answer, answer
            return answer["result"].get("value")

        yield run


def loaded(run, path: str) -> None:
    """Wait until the page is that of a path, and complete."""
    there = f"location.pathname === {path!r} && document.readyState === 'complete'"

    def is_there() -> bool:
        with contextlib.suppress(AssertionError):  # the page before was left meanwhile
            return run(there)
        return False

    until(is_there)


def test_a_listing_is_clicked_through(server, tmp_path):
    """Into a folder and back, and to files whose names are as odd as they may be."""
    names = [
        b"tab\tbed",
        b"line\nbreak",
        b'quo"te',
        b"apo'strophe",
        b"\xff\xfe",
        b"100%41",
        b"a?b#c",
    ]
    folder = server.root / "odd"
    folder.mkdir()
    for name in names:
        with open(os.fsencode(folder) + b"/" + name, "wb") as file:
            file.write(name)
    with page(tmp_path / "profile", f"{server.url}/") as run:
        loaded(run, "/")
        run("""document.querySelector('a[href="odd/"]').click()""")
        loaded(run, "/odd/")
        bodies = run("""Promise.all([...document.links].map(async link => Array.from(
            new Uint8Array(await (await fetch(link.href)).arrayBuffer()))))""")
        assert sorted(map(bytes, bodies)) == sorted(names)
        run("history.back()")
        loaded(run, "/")
        run("""document.querySelector('a[href="sub/"]').click()""")
        loaded(run, "/sub/")
        assert run("document.body.innerText") == "index"


def wav(seconds: int) -> bytes:
    """Make silence, which a video element plays too."""
    data = bytes(8000 * seconds)
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 8000, 8000, 1, 8)
    body = b"WAVE" + form + struct.pack("<4sI", b"data", len(data)) + data
    return struct.pack("<4sI", b"RIFF", len(body)) + body


def test_a_video_that_seeks(server, tmp_path):
    """To its end, and back: each jump is a request for the rest from there on."""
    (server.root / "long.wav").write_bytes(wav(3600))
    (server.root / "video.html").write_text("<!DOCTYPE html><video id=v src=long.wav></video>")
    jump = """new Promise((done, failed) => {
      v.onerror = () => failed(v.error); v.onseeked = () => done(v.currentTime)
      v.currentTime = %d
    })"""
    with page(tmp_path / "profile", f"{server.url}/video.html") as run:
        loaded(run, "/video.html")
        assert (
            run("""new Promise((done, failed) => {
          v.onerror = () => failed(v.error)
          v.readyState ? done(v.duration) : v.onloadedmetadata = () => done(v.duration)
        })""")
            == 3600
        )
        for where in (3599, 1800):
            assert run(jump % where) == where
    server.stop()
    statuses = re.findall(r'"GET /long.wav HTTP/1.1" (\d+)', server.log)
    assert len(statuses) >= 2
    # What it has had already, a browser may ask about again.
    assert {"206"} <= set(statuses) <= {"206", "304"}
