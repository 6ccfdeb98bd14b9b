"""The ASGI examples, each with its real framework: pages of the app, and files by sendfile."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from tests.support.commands import HANG, started, unused_port
from tests.support.programs import answers, need, running
from tests.support.states import until
from tests.support.wires import MIB, payload

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FRAMEWORKS = ("starlette", "fastapi", "django", "quart")
FILM = payload(5 * MIB)


@pytest.fixture(params=FRAMEWORKS)
def framework(request):
    pytest.importorskip("uvicorn")
    pytest.importorskip(request.param)
    return request.param


@pytest.fixture
def site(tmp_path):
    site = tmp_path / "site"
    (site / "sub").mkdir(parents=True)
    (site / "film.mp4").write_bytes(FILM)
    (site / "a b.txt").write_bytes(b"blank")
    (site / "sub" / "index.html").write_bytes(b"<p>index")
    (tmp_path / "secret").write_bytes(b"secret")
    return site


def command(framework, site, port):
    return [sys.executable, EXAMPLES / f"asgi_{framework}.py", site, str(port)]


def ask(port, target, **headers):
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=HANG)) as client:
        client.putrequest("GET", target, skip_accept_encoding=True)
        for name, value in headers.items():
            client.putheader(name.replace("_", "-"), value)
        client.endheaders()
        response = client.getresponse()
        return response.status, response.headers, response.read()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_example_is_short(framework):
    """Under 60 lines, with what it is for on top."""
    text = (EXAMPLES / f"asgi_{framework}.py").read_text()
    assert len(text.splitlines()) < 60
    assert re.match(rf'"""\w+ .*: `python asgi_{framework}\.py DIR \[PORT\]`\.\n', text)


def test_a_mounted_directory(framework, site):
    """Files, ranges, versions, an index, a redirect; and nothing from outside."""
    port = unused_port()
    with running(*command(framework, site, port)) as process:
        until(answers(process, port))
        status, fields, body = ask(port, "/static/film.mp4")
        assert (status, body, fields["Content-Type"]) == (200, FILM, "video/mp4")
        status, part, body = ask(port, "/static/film.mp4", Range="bytes=1000000-2999999")
        assert (status, body) == (206, FILM[1_000_000:3_000_000])
        assert part["ETag"] == fields["ETag"]
        assert ask(port, "/static/film.mp4", If_None_Match=fields["ETag"])[0] == 304
        assert ask(port, "/static/a%20b.txt")[2] == b"blank"
        assert ask(port, "/static/sub/")[2] == b"<p>index"
        status, fields, _ = ask(port, "/static/sub")
        assert (status, fields["Location"]) == (301, "/static/sub/")
        for target in ("/static/../secret", "/static/%2e%2e/secret", "/static/..%2fsecret"):
            status, _, body = ask(port, target)
            assert status in (400, 404)
            assert b"secret" not in body
        assert ask(port, "/static/none")[0] == 404


def test_the_pages_of_the_app(framework, site):
    """They are the framework's."""
    port = unused_port()
    with running(*command(framework, site, port)) as process:
        until(answers(process, port))
        if framework in ("django", "quart"):
            assert ask(port, "/")[2].lower() == f"hello from {framework}\n".encode()
            return
        assert ask(port, "/film/film.mp4", Ticket="one")[2] == FILM
        assert ask(port, "/none")[0] == 404
        if framework == "fastapi":
            assert ask(port, "/film/film.mp4")[0] == 402
            assert ask(port, "/film/none", Ticket="one")[0] == 404
            assert b'href="film.mp4"' in ask(port, "/static/")[2]


def test_files_leave_by_sendfile(framework, site, tmp_path):
    """As `spliceio trace` says, in a directory and as a FileResponse."""
    need("strace")
    port, report = unused_port(), tmp_path / "report"
    words = ["trace", "--json", "-o", report, "--", *command(framework, site, port)]
    with started(*words, stderr=None, start_new_session=True) as process:
        until(answers(process, port))
        assert ask(port, "/static/film.mp4")[2] == FILM
        if framework in ("starlette", "fastapi"):
            assert ask(port, "/film/film.mp4", Ticket="one")[2] == FILM
        process.send_signal(signal.SIGTERM)
        process.wait(HANG)
    (program,) = json.loads(report.read_text())["programs"]
    sent = {one["path"]: one["bytes"] for one in program["sent_paths"]}
    files = 2 if framework in ("starlette", "fastapi") else 1
    assert sent == {os.fspath(site / "film.mp4"): files * len(FILM)}
