"""The one flag, as it is written in a shell: uvicorn, and gunicorn with uvicorn's worker."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.support.commands import HANG, started, unused_port
from tests.support.programs import answers, need, running
from tests.support.states import until
from tests.support.wires import MIB

pytest.importorskip("uvicorn")
starlette = pytest.importorskip("starlette")

APP = """
from starlette.applications import Starlette
from starlette.responses import FileResponse
from starlette.routing import Route

app = Starlette(routes=[Route("/", lambda request: FileResponse("film"))])
"""
WORKER = """
from uvicorn_worker import UvicornWorker

class Worker(UvicornWorker):
    CONFIG_KWARGS = {"http": "spliceio.asgi:UvicornProtocol"}
"""


@pytest.fixture
def site(tmp_path):
    (tmp_path / "film").write_bytes(os.urandom(5 * MIB))
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "worker.py").write_text(WORKER)
    return tmp_path


def download(port):
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=HANG)) as client:
        client.request("GET", "/")
        return client.getresponse().read()


@pytest.mark.parametrize("flag", [[], ["--http", "spliceio.asgi:UvicornProtocol"]])
def test_spliceio_trace_says_sendfile(site, flag):
    """Of the same app without the flag, that it copies."""
    need("strace")
    port, report = unused_port(), site / "report"
    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port), *flag]
    traced = ["trace", "--json", "-o", report, "--", *command]
    with started(*traced, cwd=site, stderr=None, start_new_session=True) as process:
        until(answers(process, port))
        assert download(port) == (site / "film").read_bytes()
        process.send_signal(signal.SIGTERM)
        process.wait(HANG)
    (program,) = json.loads(report.read_text())["programs"]
    sent = [one["bytes"] for one in program["sent_paths"] if one["path"] == str(site / "film")]
    if flag:
        assert sent == [5 * MIB]
        assert "uses sendfile for 99.9 %" in program["verdict"]
    else:
        assert sent == []
        assert program["verdict"].startswith("No: ")


def test_gunicorn_with_uvicorns_worker(site):
    """The worker that the how-to shows."""
    pytest.importorskip("gunicorn")
    pytest.importorskip("uvicorn_worker")
    port = unused_port()
    command = [sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{port}", "--no-control-socket"]
    with running(*command, "-k", "worker.Worker", "app:app", cwd=site) as process:
        until(answers(process, port))
        assert download(port) == (site / "film").read_bytes()
        with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
            (worker,) = file.read().split()
        # What sends files in threads of C has been started there.
        names = [
            Path(f"/proc/{worker}/task/{task}/comm").read_text().strip()
            for task in os.listdir(f"/proc/{worker}/task")
        ]
    assert names.count("spliceio-engine") == 2, names
