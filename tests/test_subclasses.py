"""Attributes of ours in subclasses of other people's classes: none may hide one of theirs.

Rule 1: both sides are read out of the sources: a name in the body of a class, in `__slots__`, or
assigned to `self` (or `cls`) in a method. Of classes written in C, `dir()` tells.
Rule 2: what is overridden or set on purpose is in a table, and only what the base class documents;
a name that a new Python gives to the base class is in no table.
"""

from __future__ import annotations

import ast
import builtins
import functools
import http.server
import importlib
import inspect
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import spliceio
import spliceio.asgi

PACKAGE = Path(spliceio.__file__).parent


class MixedIn(spliceio.SendfileMixin, http.server.SimpleHTTPRequestHandler):
    """The mixin where it is put: by itself it has no base class to hide anything of."""


REQUEST = {"command", "requestline", "raw_requestline", "request_version", "close_connection"}
STREAMS = {"rfile", "wfile"}
CONNECTION = {"setup", "finish", "parse_request", "send_response_only", "send_header"}
CONNECTION |= {"send_error", "end_headers"}
FILES = {"do_GET", "send_head", "copyfile", "translate_path"}

FUTURE = {"cancel", "cancelled", "done", "running", "result", "exception", "add_done_callback"}
FUTURE |= {"set_result", "set_exception", "set_running_or_notify_cancel"}
FUTURE |= {"_condition", "_state", "_waiters", "_done_callbacks", "_result", "_exception"}

UVICORN = {"app", "transport", "connection_made", "connection_lost", "handle_websocket_upgrade"}
SERVING = {"data_received", "eof_received", "send_400_response", "on_response_complete"}
SERVING |= {"timeout_keep_alive_handler"}

ON_PURPOSE = {
    "PageWriter": {"close", "fileno", "writable", "write"},
    "RelayFuture": FUTURE,  # all of it: its lock is what it is there to do without
    "Thread": {"run", "start", "_started"},  # start() waits for _started, whatever it is
    "_Thread": {"run"},
    "Remaining": {"readable", "readinto", "close"},
    "Parser": {"error", "parse_known_args", "print_help"},
    "UvicornProtocol": UVICORN,
    "Connection": UVICORN | SERVING,
    "_State": {"default_headers"},  # a property in place of what a tick would fill
    "MixedIn": CONNECTION | FILES | STREAMS | REQUEST,
}
"""What base classes document for subclasses to define, or to set."""


def is_ours(cls: type) -> bool:
    return cls.__module__.partition(".")[0] in ("spliceio", __name__.partition(".")[0])


def home(cls: type) -> str:
    """The module that a class is written in."""
    if cls.__module__ == "spliceio":
        return f"spliceio.{spliceio._MODULE_OF[cls.__qualname__]}"
    if cls.__module__ == "spliceio.asgi":
        return f"spliceio.asgi.{spliceio.asgi._WHERE[cls.__qualname__]}"
    return cls.__module__


def ours() -> Iterator[type]:
    """Every class of the package that has a base class from elsewhere."""
    yield MixedIn
    for path in sorted(PACKAGE.rglob("*.py")):
        module = importlib.import_module(
            ".".join(("spliceio", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
                ".__init__"
            )
        )
        for cls in vars(module).values():
            if isinstance(cls, type) and home(cls) == module.__name__ and theirs(cls):
                yield cls


def theirs(cls: type) -> list[type]:
    return [base for base in cls.__mro__ if base is not object and not is_ours(base)]


@functools.cache
def definitions(path: str) -> dict[str, ast.ClassDef]:
    """The classes of a file, by qualified name."""
    found: dict[str, ast.ClassDef] = {}

    def visit(node: ast.AST, within: str) -> None:
        for child in ast.iter_child_nodes(node):
            name = within
            if isinstance(child, ast.ClassDef):
                found[f"{within}{child.name}"] = child
                name = f"{within}{child.name}."
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                name = f"{within}{child.name}.<locals>."
            visit(child, name)

    visit(ast.parse(Path(path).read_text(encoding="utf-8")), "")
    return found


def body(cls: type) -> ast.ClassDef | None:
    """The definition of a class; None for one that is written in C."""
    try:
        path = inspect.getsourcefile(sys.modules[home(cls)])
    except TypeError:
        return None
    return definitions(path).get(cls.__qualname__) if path else None


def defined(node: ast.ClassDef) -> set[str]:
    """Names that a class gives to itself and its instances."""
    names: set[str] = set()
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(statement.name)
            names |= assigned(statement)
            continue
        for part in ast.walk(statement):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                names.add(part.id)
        if isinstance(statement, ast.Assign) and "__slots__" in names:
            names |= {
                part.value
                for part in ast.walk(statement.value)
                if isinstance(part, ast.Constant) and isinstance(part.value, str)
            }
    return {name for name in names if not (name.startswith("__") and name.endswith("__"))}


def assigned(method: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Attributes that a method gives to its first argument."""
    arguments = [*method.args.posonlyargs, *method.args.args]
    return {
        part.attr
        for part in ast.walk(method)
        if arguments
        and isinstance(part, ast.Attribute)
        and isinstance(part.ctx, ast.Store)
        and isinstance(part.value, ast.Name)
        and part.value.id == arguments[0].arg
    }


def hidden(cls: type) -> set[str]:
    """Names that ours have given, and theirs have too."""
    given: set[str] = set()
    taken: set[str] = set()
    for base in cls.__mro__:
        node = body(base)
        if is_ours(base):
            assert node is not None, f"no source of {base}"
            given |= defined(node)
        elif base is not object:
            taken |= {*dir(base), *(defined(node) if node else ())}
    return given & taken


@pytest.mark.parametrize(
    "cls", list(ours()), ids=lambda cls: f"{cls.__module__}.{cls.__qualname__}"
)
def test_a_subclass_hides_nothing_by_accident(cls):
    """What it has in common with its base classes is what they document for subclasses."""
    assert hidden(cls) == ON_PURPOSE.get(cls.__qualname__, set())


def test_every_exception_in_the_table_is_a_class():
    """No entry outlives its class."""
    assert set(ON_PURPOSE) <= {cls.__qualname__ for cls in ours()}


def builtin_exceptions() -> Iterator[type]:
    return (
        value
        for value in vars(builtins).values()
        if isinstance(value, type) and issubclass(value, BaseException)
    )


def test_what_exceptions_are_given_is_no_attribute_of_theirs():
    """`result`, `held`, `unread`: nothing that an exception of Python's uses itself."""
    given = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                what = node.value
                if isinstance(what, ast.Name) and what.id == "error":
                    given.add(node.attr)
    assert given >= {"result", "held", "unread"}
    given -= {"characters_written", "__context__", "__cause__"}  # as Python itself gives them
    assert {(cls, name) for cls in builtin_exceptions() for name in given & {*dir(cls)}} == set()


class Stray(threading.Thread):
    """Hides names of every kind."""

    __slots__ = ("_started", "kept_apart")
    _target: object
    _kwargs = None

    def _bootstrap(self):
        def later():
            self._native_id = 1

        self.own, (self._name, *self._args) = 0, (1, 2)
        with open("/dev/null") as self._handle:
            later()
        self.other._ident = 3


def test_names_are_found_wherever_a_class_gives_them():
    """In its body, its slots and its methods; a use is none."""
    names = {"_started", "_target", "_kwargs", "_bootstrap", "_native_id", "_name", "_args"}
    assert hidden(Stray) - {"_handle"} == names
