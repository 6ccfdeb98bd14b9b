"""Public names say that they are of `spliceio`, and what reads `__module__` still works."""

from __future__ import annotations

import asyncio
import inspect
import io
import pickle
import pydoc
import subprocess
import sys
import traceback
import typing
from pathlib import Path

import pytest

import spliceio
import spliceio.aio
import spliceio.asgi
from spliceio import _public

NAMES = [
    pytest.param(module, name, id=f"{module.__name__}.{name}")
    for module in (spliceio, spliceio.aio, spliceio.asgi)
    for name in module.__all__
    if inspect.isclass(getattr(module, name)) or inspect.isfunction(getattr(module, name))
]
CLASSES = [name for name in spliceio.__all__ if inspect.isclass(getattr(spliceio, name))]
FUNCTIONS = [name for name in spliceio.__all__ if inspect.isfunction(getattr(spliceio, name))]

ONLY_FOR_CHECKERS = {
    "Buffer": bytes,
    "ReadTransport": asyncio.ReadTransport,
    "StreamReader": asyncio.StreamReader,
    "Transport": asyncio.Transport,
    "WriteTransport": asyncio.WriteTransport,
    "StreamWriter": asyncio.StreamWriter,
}
"""What only annotations use, and is imported for type checkers alone, or what is like it."""


def test_these_are_all_of_them():
    """What is neither a class nor a function is a constant."""
    rest = set(spliceio.__all__) - set(CLASSES) - set(FUNCTIONS)
    assert {name for name in rest if not name.startswith("SPLICE_F_")} == {"MORE", "__version__"}
    others = [*spliceio.aio.__all__, *spliceio.asgi.__all__]
    assert len(NAMES) == len(CLASSES) + len(FUNCTIONS) + len(others)
    assert len(CLASSES) > 15
    assert len(FUNCTIONS) > 20


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_a_name_is_of_the_package(module, name):
    """Its module, its name, its repr and its help say where it is imported from."""
    named = getattr(module, name)
    assert (named.__module__, named.__qualname__) == (module.__name__, name)
    if inspect.isclass(named):
        assert repr(named) in (f"<class '{module.__name__}.{name}'>", f"<flag '{name}'>")
    (title, *_) = pydoc.plain(pydoc.render_doc(named)).splitlines()
    assert title.endswith(f" {name} in module {module.__name__}")


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_a_name_can_be_pickled(module, name):
    """By its public name: the folders may change between writing and reading."""
    named = getattr(module, name)
    data = pickle.dumps(named)
    assert b"spliceio._" not in data
    assert pickle.loads(data) is named


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_the_hints_of_a_name_are_found(module, name):
    """Of a class too, whose annotations are looked up in the module that it names."""
    hints = typing.get_type_hints(getattr(module, name), localns=ONLY_FOR_CHECKERS)
    assert not [hint for hint in hints.values() if isinstance(hint, str)]
    own = inspect.get_annotations(getattr(module, name))
    assert set(own) <= set(hints)


@pytest.mark.parametrize("name", CLASSES)
def test_the_hints_of_a_class_need_nothing_loaded(name):
    """A fresh interpreter that has loaded no other name finds them."""
    script = f"import typing, spliceio; typing.get_type_hints(spliceio.{name})"
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_source_of_a_function_is_found(name):
    """In the file where it is written."""
    named = getattr(spliceio, name)
    assert inspect.getsource(named).startswith(f"@public\ndef {name}(")
    assert not inspect.getsourcefile(named).endswith("spliceio/__init__.py")


@pytest.mark.parametrize("name", CLASSES)
def test_the_source_of_a_class_is_not_another_text(name):
    """Inspect says that it finds none; it finds those of the methods, in the file of the class."""
    cls = getattr(spliceio, name)
    with pytest.raises(OSError, match=r"class definition|source code not available"):
        inspect.getsource(cls)
    written = sys.modules[f"spliceio.{spliceio._MODULE_OF[name]}"].__file__
    assert f"\nclass {name}" in Path(written).read_text(encoding="utf-8")
    for member in vars(cls).values():
        if inspect.isfunction(member) and member.__code__.co_filename == written:
            assert f"def {member.__name__}(" in inspect.getsource(member)


def test_a_result_can_be_pickled(tmp_path):
    """With all that it holds, by public names."""
    (tmp_path / "a").write_bytes(b"abc")
    with open(tmp_path / "a", "rb") as src, open(tmp_path / "b", "wb") as dst:
        result = spliceio.copy(src, dst)
    for value in (result, spliceio.features(), spliceio.SpliceFlag.MORE):
        data = pickle.dumps(value)
        assert b"spliceio._" not in data
        assert pickle.loads(data) == value


def test_an_exception_says_its_public_name():
    """In a traceback; and comes out of a pickle as what it was."""
    error = spliceio.UnexpectedEOF(61, "too short")
    assert traceback.format_exception_only(error) == [
        "spliceio.UnexpectedEOF: [Errno 61] too short\n"
    ]
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is spliceio.UnexpectedEOF
    assert again.args == error.args


def test_help_of_the_package_has_every_name():
    """help(spliceio) shows what is public, though nothing was loaded before."""
    script = "import pydoc, spliceio; print(pydoc.plain(pydoc.render_doc(spliceio)))"
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    for name in CLASSES:
        assert f"\n    class {name}(" in done.stdout
    for name in FUNCTIONS:
        assert f"\n    {name}(" in done.stdout


def test_a_class_whose_annotations_say_a_wrong_name_is_an_error():
    """At import, and not when somebody asks for the hints."""
    wrong = type("Wrong", (), {"__module__": __name__, "__annotations__": {"a": "NoSuchName"}})
    with pytest.raises(NameError, match="NoSuchName"):
        _public.public(wrong)
    right = type("Right", (), {"__module__": __name__, "__annotations__": {"a": "io.BytesIO"}})
    assert _public.public(right) is right
    assert typing.get_type_hints(right) == {"a": io.BytesIO}
    assert right.__module__ == "spliceio"
