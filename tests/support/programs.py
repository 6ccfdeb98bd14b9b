"""Programs that nobody here wrote, as the tests need them."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.commands import HANG, unused_port
from tests.support.states import until


def need(program: str, *aliases: str) -> str:
    """Return a program's path; where it is missing, skip by its name, and fail where CI is set."""
    places = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    found = (shutil.which(name, path=places) for name in (program, *aliases))
    path = next(filter(None, found), None)
    if path is None and os.environ.get("CI"):
        pytest.fail(f"{program} is not installed, and this is CI: install it there")
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


@contextlib.contextmanager
def running(*command, **options):
    """Start a server; end it after the test."""
    options.setdefault("stdout", subprocess.DEVNULL)
    options.setdefault("stderr", subprocess.DEVNULL)
    options.setdefault("stdin", subprocess.DEVNULL)
    process = subprocess.Popen([*map(os.fspath, command)], **options)
    with process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(HANG)


def answers(process: subprocess.Popen, port: int):
    """Say whether the server accepts connections; fail when it has ended."""

    def accepts() -> bool:
        assert process.poll() is None, f"{process.args[0]} ended with {process.returncode}"
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
            return True
        return False

    return accepts


@contextlib.contextmanager
def nginx(directory: Path):
    """Serve a directory by nginx, with keep-alive and sendfile."""
    program = need("nginx")
    port = unused_port()
    work = directory.parent / "nginx"
    work.mkdir()
    temporary = "".join(
        f"{name}_temp_path {work}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (work / "conf").write_text(
        f"daemon off; master_process off; pid {work}/pid; error_log {work}/log;\n"
        f"events {{}}\nhttp {{ access_log off; sendfile on; {temporary}\n"
        f"server {{ listen 127.0.0.1:{port}; root {directory}; "
        "client_max_body_size 0; location /put/ { return 413; } } }\n"
    )
    with running(program, "-p", work, "-e", work / "log", "-c", work / "conf") as process:
        until(answers(process, port))
        yield port
