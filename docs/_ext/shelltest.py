"""Console blocks that cannot go stale.

``shell`` is run by the doctest builder with /bin/sh: a line that begins with
``$`` is a command, one that begins with ``>`` continues it, the lines after it
are what it prints, and ``...`` stands for anything, as in every doctest.

``commandhelp`` shows what a command of the installed package prints for
--help, asked at the time of the build: argparse words it a little differently
in each Python.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

TIME_LIMIT = 30


def shell(command: str) -> None:
    """Run one command line, with this interpreter's scripts first on PATH, and print its output."""
    scripts = sysconfig.get_path("scripts")
    path = os.pathsep.join([scripts, os.environ.get("PATH", os.defpath)])
    done = subprocess.run(
        command,
        shell=True,
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=TIME_LIMIT,
        check=False,
        text=True,
    )
    sys.stdout.write(done.stdout)


def _call(command: list[str]) -> Iterator[str]:
    if command:
        yield f">>> _shell({chr(10).join(command)!r})"


class Shell(SphinxDirective):
    has_content = True

    def run(self) -> list[nodes.Node]:
        shown = "\n".join(self.content)
        node = nodes.literal_block(
            shown,
            shown,
            language="console",
            testnodetype="doctest",
            groups=["default"],
            options={},
            test="\n".join(self._as_doctest(self.content)) + "\n",
        )
        self.set_source_info(node)
        return [node]

    @staticmethod
    def _as_doctest(lines: Iterable[str]) -> Iterator[str]:
        command: list[str] = []
        for line in lines:
            if line.startswith("> ") and command:
                command.append(line[2:])
                continue
            yield from _call(command)
            command = [line[2:]] if line.startswith("$ ") else []
            if not command:
                yield line
        yield from _call(command)


class CommandHelp(SphinxDirective):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        # Not `python -m`: that would find the checkout's own, uncompiled package.
        program = os.path.join(sysconfig.get_path("scripts"), "spliceio")
        shown = subprocess.run(
            [program, self.arguments[0], "--help"],
            env={**os.environ, "COLUMNS": "80"},
            capture_output=True,
            timeout=TIME_LIMIT,
            check=True,
            text=True,
        ).stdout.rstrip()
        return [nodes.literal_block(shown, shown, language="text")]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("shell", Shell)
    app.add_directive("commandhelp", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
