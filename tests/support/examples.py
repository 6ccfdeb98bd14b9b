"""The programs of examples/, each in a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.commands import HANG

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@contextlib.contextmanager
def example(name: str, *args: str, **environment: str):
    """Run an example; yields how to connect to it, and the process, which Ctrl-C has to end.

    Afterwards `process.errors` is what it has said to stderr.
    """
    process = subprocess.Popen(
        [sys.executable, EXAMPLES / name, *args],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
        env={**os.environ, **environment},
    )  # fmt: skip
    with process:
        try:
            line = process.stdout.readline().decode()
            match = re.fullmatch(r"listening on 127\.0\.0\.1:(\d+)\n", line)
            assert match, line + process.stderr.read().decode()
            yield int(match[1]), process
            process.send_signal(signal.SIGINT)
            process.wait(HANG)
            process.errors = process.stderr.read()
        finally:
            process.kill()
