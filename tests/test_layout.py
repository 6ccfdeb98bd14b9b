"""The house: arrows go down only, every file opens with a contract, importing costs nothing."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import spliceio

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "spliceio"
CSRC = ROOT / "csrc"

# Of csrc, from the ground up; the rooms of a line know nothing of each other.
ROOMS = {"fanout", "files", "memory", "relay"}
FLOORS = [{"base"}, {"loop"}, {"transfer"}, ROOMS, {"proxy"}, {"testing"}]
UNITS = sorted(CSRC.glob("*/*.c"))


def floor_of(folder):
    (floor,) = (number for number, rooms in enumerate(FLOORS) if folder in rooms)
    return floor


def uncommented(path):
    return re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.S)


@pytest.mark.parametrize(
    "path", sorted(CSRC.glob("*/*.[ch]")), ids=lambda p: f"{p.parent.name}/{p.name}"
)
def test_a_c_file_includes_only_what_is_below_it(path):
    """Its own header, api.h, units of its folder and of the floors below; nothing of Python."""
    included = re.findall(r'#include "([^"]+)"', path.read_text(encoding="utf-8"))
    assert included
    for header in included:
        folder, _, _ = header.rpartition("/")
        assert (CSRC / header).is_file()
        assert (
            header == "api.h"
            or folder == path.parent.name
            or (floor_of(folder) < floor_of(path.parent.name))
        ), f"{path.name} includes {header}"
    assert "Python.h" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", UNITS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_a_c_file_shares_no_variable(path):
    """No unit has a variable that another one could see."""
    assert not re.search(
        r"^(?!static\b|extern\b)\w[\w \t*]*\b\w+\s*(\[\w*\])?\s*(=.*)?;$",
        path.read_text(encoding="utf-8"),
        re.M,
    )


def test_calls_between_c_files_go_one_way():
    """Leave out whoever calls nobody that is left, again and again: nobody stays in a circle."""
    home, called = {}, {}
    for path in UNITS:
        text = uncommented(path)
        for name in re.findall(
            r"^(?!static\b)[a-z][^\n;{]*?\b(sio_\w+)\([^;{]*\)\s*\{", text, re.M
        ):
            home[name] = path
        called[path] = set(re.findall(r"\b(sio_\w+)\s*\(", text))
    calls = {
        path: {home[name] for name in names if name in home} - {path}
        for path, names in called.items()
    }
    assert sum(map(len, calls.values())) > 50  # the expressions above find them
    while free := [path for path, below in calls.items() if not below & calls.keys()]:
        for path in free:
            del calls[path]
    assert {path.name: sorted(p.name for p in below) for path, below in calls.items()} == {}


def test_a_transfer_is_made_in_one_place():
    """Its methods and its owner are set by sio_transfer_init; who needs a transfer calls that."""
    sets = r"(?:\bmethods\.(?:order|count)\b(?:\[[^]]*\])?|->pid|->chunk) = |memset\(t, 0"
    setters = {
        path.name
        for path in UNITS
        if "struct sio_transfer *" in uncommented(path) and re.search(sets, uncommented(path))
    }
    assert setters - {"loop.c"} == {"life.c"}
    assert {
        path.name for path in UNITS if re.search(r"\bsio_transfer_init\(", uncommented(path))
    } == {"life.c", "conn.c"}


def declared(header):
    """What a header declares to Python: its lines between the two markers, without comments."""
    text = (CSRC / header).read_text(encoding="utf-8")
    between = text[text.index("/* cffi: begin */") : text.index("/* cffi: end */")]
    return re.sub(r"/\*.*?\*/", "", between, flags=re.S)


FUNCTION = r"\b(sio_\w+)\s*\([^;]*\);"
PYTHON = {"package": [PACKAGE], "tests": [ROOT / "tests"]}


def python(of):
    return "\n".join(
        path.read_text(encoding="utf-8") for top in PYTHON[of] for path in top.rglob("*.py")
    )


@pytest.mark.parametrize(
    ("header", "of"),
    [("api.h", "package"), ("base/faults.h", "tests"), ("testing/testing.h", "tests")],
)
def test_what_is_declared_to_python_is_called(header, of):
    """api.h by the package, the headers for tests by a test: nothing is there for nobody."""
    called = set(re.findall(r"\blib\.(sio_\w+)", python(of)))
    names = re.findall(FUNCTION, declared(header))
    assert len(names) > 40 or of == "tests"
    assert sorted(set(names) - called) == []


OPEN = {
    "act",
    "counts",
    "error",
    "fan_act",
    "fan_sink",
    "fanout_config",
    "fanout_report",
    "fdinfo",
    "file_copy",
    "file_pair",
    "identity",
    "job_config",
    "job_report",
    "network",
    "owned",
    "pair",
    "peer",
    "proxy_config",
    "proxy_report",
    "refusal",
    "relay_act",
    "relay_config",
    "segment",
    "transfer_config",
    "transfer_report",
    "trouble",
}
"""Configs and results: what Python sets or reads field by field."""


def test_structs_are_opaque_to_python_but_for_configs_and_results():
    """Of all others api.h says the name; their fields are the C's to change."""
    text = declared("api.h")
    assert set(re.findall(r"^struct sio_(\w+) \{", text, re.M)) == OPEN
    opaque = set(re.findall(r"^struct sio_(\w+);", text, re.M))
    assert {"conn", "engine", "fanout", "relay", "transfer", "upstreams"} <= opaque
    for name in opaque:
        assert f'"struct sio_{name} *"' not in python("package")


ABOVE = {"transfer", "relay", "proxy", "gate", "upstream", "listener", "fanout", "flow", "link"}


@pytest.mark.parametrize("path", sorted(CSRC.glob("loop/*.[ch]")), ids=lambda p: p.name)
def test_the_loop_names_nothing_above_it(path):
    """Not one identifier is of a relay or of what moves its bytes."""
    words = {
        word
        for name in re.findall(r"\w+", uncommented(path))
        for word in name.lower().removesuffix("s").split("_")
    }
    assert words & ABOVE <= {"listener"}  # sio_server_ops.on_listener


def test_the_package_calls_nothing_that_is_for_tests():
    """Neither a function nor a constant or struct of the fault seam."""
    text = python("package")
    assert "sio_test_" not in text
    for header in ("base/faults.h", "testing/testing.h"):
        for name in re.findall(r"\b(sio_\w+|SIO_\w+)\b", declared(header)):
            if name not in declared("api.h"):
                assert name not in text


@pytest.mark.parametrize("path", sorted(CSRC.rglob("*.[ch]")), ids=lambda p: p.name)
def test_a_c_file_opens_with_a_contract(path):
    """A comment that names the file and says what it is for."""
    text = path.read_text(encoding="utf-8")
    opening = text[: text.index("*/")]
    assert opening.startswith(f"/*\n * {path.name}: ")
    assert opening.partition(": ")[2].strip()


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_a_module_opens_with_a_contract(path):
    """A docstring, and the postponed annotations that keep typing out of the import."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    doc = ast.get_docstring(tree)
    assert doc


PUBLIC = [
    "splice",
    "tee",
    "vmsplice",
    "sendfile",
    "try_splice",
    "try_tee",
    "try_vmsplice",
    "try_sendfile",
    "SpliceFlag",
    "SPLICE_F_MOVE",
    "SPLICE_F_NONBLOCK",
    "SPLICE_F_MORE",
    "SPLICE_F_GIFT",
    "Pipe",
    "peek",
    "http_host",
    "tls_server_name",
    "MORE",
    "Duplex",
    "pipe_pair",
    "PageWriter",
    "Transfer",
    "TransferResult",
    "copy",
    "discard",
    "chunks",
    "explain",
    "Plan",
    "fanout",
    "FanoutResult",
    "SinkResult",
    "relay",
    "RelayResult",
    "RelayPool",
    "RelayFuture",
    "PoolStats",
    "Proxy",
    "ProxyStats",
    "send_file",
    "send_ranges",
    "receive_file",
    "copy_file",
    "CopyResult",
    "copyfileobj",
    "UnexpectedEOF",
    "FileWrapper",
    "SendfileMixin",
    "features",
    "Features",
    "Fallback",
    "Blob",
    "__version__",
]


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_listed(name):
    """What is promised can be imported, and is in __all__ and dir()."""
    assert name in spliceio.__all__
    assert name in dir(spliceio)
    assert getattr(spliceio, name) is not None


@pytest.mark.parametrize("name", sorted(set(spliceio.__all__) - {"__version__"}))
def test_a_public_name_is_documented(name):
    """A docstring of its own, for it and for its public methods and properties."""
    value = getattr(spliceio, name)
    if name.startswith("SPLICE_F_"):
        assert isinstance(value, spliceio.SpliceFlag)
        return
    assert inspect.getdoc(value)
    if inspect.isclass(value):
        for member, what in vars(value).items():
            public = not member.startswith("_") and (callable(what) or isinstance(what, property))
            if public and not isinstance(what, spliceio.SpliceFlag):
                assert inspect.getdoc(what), f"{name}.{member} has no docstring"


def test_all_is_sorted_and_whole():
    """`import *` gives exactly the names of __all__, each once."""
    assert len(set(spliceio.__all__)) == len(spliceio.__all__)
    space = {}
    exec("from spliceio import *", space)
    assert set(spliceio.__all__) <= set(space)


def test_an_unknown_name_is_an_attribute_error():
    """As of any module."""
    with pytest.raises(AttributeError, match="no_such_name"):
        spliceio.no_such_name  # noqa: B018 - the access is the test


def loaded(statement):
    """Which modules a fresh interpreter has after a statement that it had not before."""
    script = f"""
import os, sys  # what every interpreter has
before = set(sys.modules)
{statement}
print(*sorted(set(sys.modules) - before))
"""
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}\n{script}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_importing_the_package_loads_next_to_nothing():
    """Typing at most; no socket, no dataclasses, not even the compiled part."""
    may = {"spliceio", "__future__", "typing", "typing.io", "typing.re", "_typing"}
    may |= {
        "collections",
        "collections.abc",
        "functools",
        "operator",
        "re",
        "contextlib",
        "copyreg",
    }
    may |= {"types", "enum", "keyword", "reprlib", "itertools", "heapq", "abc", "warnings"}
    got = loaded("import spliceio")
    extra = {name for name in got if name not in may and not name.startswith(("_", "re.", "sre"))}
    assert extra == set()
    assert not {name for name in got if name.startswith("spliceio.")}


@pytest.mark.parametrize("name", ["splice", "tee", "vmsplice", "sendfile"])
def test_the_raw_calls_load_neither_sockets_nor_dataclasses(name):
    """They need the compiled part and the words for errors."""
    got = loaded(f"from spliceio import {name}")
    assert got & {"spliceio._kernel.syscalls", "spliceio._kernel.vmsplice"}
    assert not got & {"socket", "dataclasses", "inspect", "threading", "ssl", "asyncio", "select"}
    assert not got & {
        "spliceio._transfer.transfer",
        "spliceio._kernel.endpoint",
        "spliceio._kernel.features",
    }


def test_nothing_is_probed_unless_features_is_asked():
    """No import of any other public name loads the probe, asyncio, ssl, anyio or rich."""
    names = sorted(set(PUBLIC) - {"features", "Features"})
    got = loaded(f"from spliceio import {', '.join(names)}")
    assert "spliceio._transfer.transfer" in got
    assert not got & {"spliceio._kernel.features", "ssl", "asyncio", "anyio", "rich", "subprocess"}
