"""What the README and the page of examples show is true: their Python runs, their commands exist.

The tables of errors are held by test_documented_cases.py; the snippets of the site are run by its
own doctest builder.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import spliceio
from spliceio._cli import main as cli

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
SHOWN = README + (ROOT / "docs" / "examples.md").read_text()
FENCE = re.compile(r"^```(\w+)?[^\n]*\n(.*?)^```$", re.M | re.S)
PYTHON = [text for language, text in FENCE.findall(SHOWN) if language in ("python", "pycon")]
SHELL = [
    text
    for language, text in FENCE.findall(SHOWN)
    if language in ("sh", "bash", "shell", "console")
]
HANG = 60


def commands() -> list[str]:
    """Every command line that they show, one pipeline stage at a time."""
    found = []
    for block in SHELL:
        lines = block.replace("\\\n", " ").splitlines()
        prompted = any(line.startswith("$ ") for line in lines)
        for line in lines:
            if prompted and not line.startswith("$ "):
                continue  # what the command prints
            line = re.sub(r"\s#.*", "", line.removeprefix("$ ")).strip()
            found += [part.strip() for part in re.split(r"\|\|?|&&|;", line) if part.strip(" &")]
    return [command for command in found if not command.startswith("#")]


def test_the_readme_shows_python_and_the_two_commands():
    """An example to read, and `make demo` and `make test` to type; it is a door, not the house."""
    assert FENCE.search(README)
    assert len(README.splitlines()) < 150
    assert "make demo" in commands()
    assert "make test" in commands()


@pytest.mark.parametrize("block", range(len(PYTHON)))
def test_python_that_is_shown_runs(block, tmp_path):
    """Each block by itself, in an empty directory with a file of each name it opens."""
    source = PYTHON[block]
    if ">>>" in source:
        (tmp_path / "snippet.txt").write_text(source)
        command = [sys.executable, "-m", "doctest", "-o", "ELLIPSIS", "snippet.txt"]
    else:
        (tmp_path / "snippet.py").write_text(source)
        command = [sys.executable, "-W", "error", "snippet.py"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=HANG, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_commands_that_are_shown_exist():
    """Each target of make, each command of spliceio with its options, each extra of pip."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    extras = re.search(
        r"\[project.optional-dependencies\]\n(.*?)\n\n", (ROOT / "pyproject.toml").read_text(), re.S
    )
    assert extras
    known = set(re.findall(r"^(\w+) =", extras[1], re.M))
    for command in commands():
        words = shlex.split(command)
        while words and (words[0] == "sudo" or "=" in words[0]):
            words.pop(0)
        if words[:1] == ["make"]:
            assert {w for w in words[1:] if "=" not in w and w[0] != "-"} <= targets, command
        elif words[:1] == ["spliceio"] or words[1:3] == ["-m", "spliceio"]:
            args = words[1:] if words[0] == "spliceio" else words[3:]
            end = next((i for i, w in enumerate(args) if w[0] in "<>"), len(args))
            if "--help" not in args and "--version" not in args:
                cli.parser().parse_args(args[:end])
        for extra in re.findall(r"spliceio\[(\w+(?:,\w+)*)\]", command):
            assert set(extra.split(",")) <= known, command


def test_names_that_are_shown_exist():
    """`spliceio.name` and `from spliceio import name` are public."""
    names = set(re.findall(r"\bspliceio\.([a-zA-Z]\w*)", "\n".join(PYTHON)))
    for line in re.findall(r"from spliceio import ([\w, ]+)", "\n".join(PYTHON)):
        names |= set(re.split(r",\s*", line.strip()))
    modules = {"aio", "asgi"}  # which are imported by their names
    assert names - modules <= set(spliceio.__all__)


@pytest.mark.parametrize("name", sorted(set(spliceio.__all__)))
def test_everything_public_is_in_the_reference(name):
    """Each public name is documented on a page of docs/reference."""
    pages = "\n".join(path.read_text() for path in (ROOT / "docs" / "reference").rglob("*.md"))
    assert re.search(rf"\b{name}\b", pages)
    if not name.startswith(("SPLICE_F_", "__")):
        assert getattr(spliceio, name).__doc__


@pytest.mark.parametrize(
    "command",
    ["pipe", "tee", "cp", "send", "recv", "connect", "proxy", "serve", "trace", "explain"],
)
def test_every_command_is_in_the_reference(command):
    """docs/reference/cli.md names each one and shows its help."""
    page = (ROOT / "docs" / "reference" / "cli.md").read_text()
    assert f"spliceio {command}" in page
    assert f"{{commandhelp}} {command}" in page
