"""spliceio/_cffi.pyi says what the compiled module has, and is made of the header as it stands."""

from __future__ import annotations

import ast
import importlib.util
import keyword
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spliceio._cffi import ffi, lib

ROOT = Path(__file__).resolve().parent.parent
STUB = ROOT / "spliceio" / "_cffi.pyi"
# What the tests alone call is not for the package, and not in its stub.
TESTING = "".join(
    (ROOT / "csrc" / name).read_text() for name in ("base/faults.h", "testing/testing.h")
)
FOR_TESTS = {*re.findall(r"\b(sio_\w+)\(", TESTING), *re.findall(r"\bSIO_\w+", TESTING)}


def loaded(name):
    """A program of tools/, as a module."""
    spec = importlib.util.spec_from_file_location(f"tools_{name}", ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def classes():
    """Each class of the stub."""
    tree = ast.parse(STUB.read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def test_it_is_made_of_the_header_as_it_stands():
    """`make stub` would change nothing."""
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "stub.py", "--check"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_stub_that_is_not_current_is_reported(tmp_path):
    """With the command that makes it so."""
    shutil.copytree(ROOT / "csrc", tmp_path / "csrc")
    (tmp_path / "tools").mkdir()
    for name in ("stub.py", "stub_head.pyi"):
        shutil.copy(ROOT / "tools" / name, tmp_path / "tools")
    (tmp_path / "spliceio").mkdir()
    command = [sys.executable, tmp_path / "tools" / "stub.py"]
    subprocess.run(command, check=True)
    assert (tmp_path / "spliceio/_cffi.pyi").read_bytes() == STUB.read_bytes()
    header = tmp_path / "csrc/api.h"
    header.write_text(
        header.read_text().replace("/* cffi: end */", "int f(void);\n/* cffi: end */")
    )
    done = subprocess.run([*command, "--check"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "make stub" in done.stderr
    subprocess.run(command, check=True)
    subprocess.run([*command, "--check"], check=True)


def test_lib_has_the_names_of_the_module(classes):
    """Each function and constant, and the number of parameters of each function."""
    said = {}
    for node in classes["Lib"].body:
        if isinstance(node, ast.FunctionDef):
            said[node.name] = len(node.args.posonlyargs) - 1
        else:
            said[node.target.id] = None
    found = {
        name: len(ffi.typeof(getattr(lib, name)).args) if callable(getattr(lib, name)) else None
        for name in dir(lib)
        if name not in FOR_TESTS
    }
    assert said == found


def test_structs_have_the_fields_of_the_module(classes):
    """And are opaque where they are that in the module, which cannot make one."""
    structs = [name for name in ffi.list_types()[1] if not re.search(rf"struct {name} {{", TESTING)]
    assert structs
    for name in structs:
        assert {f"struct_{name}", f"struct_{name}_ptr"} <= set(classes)
        try:
            ffi.sizeof(f"struct {name}")
        except (ffi.error, TypeError, ValueError):
            assert f"_struct_{name}" not in classes
            continue
        said = [node.target.id for node in classes[f"_struct_{name}"].body]
        fields = [field for field, _ in ffi.typeof(f"struct {name}").fields]
        assert said == [field for field in fields if not keyword.iskeyword(field)]


def test_what_it_allows_cffi_takes():
    """The cases in which mypy finds nothing wrong run."""
    reader, writer = os.pipe()
    try:
        loaded("stub_cases").right(writer)
        assert os.read(reader, 100) == b"bytesfferbuffer"
    finally:
        os.close(reader)
        os.close(writer)


MADE = """
#define LIMIT 3
enum kind { ONE, TWO };
struct hidden;
struct seen { int32_t n; enum kind kind; struct hidden *other; struct seen *next; };
struct hidden *make(struct seen *s, const unsigned char *from, void *to, int class);
"""


def test_an_opaque_struct_is_a_pointer_and_nothing_more():
    """It can be passed; it cannot be made, and has no fields."""
    text = loaded("stub").made(MADE)
    assert "class struct_hidden(Opaque): ..." in text
    assert "class struct_hidden_ptr(Pointer[struct_hidden]): ..." in text
    assert 'Literal["struct seen *"]' in text
    assert 'def new(self, cdecl: Literal["struct hidden' not in text
    assert "    other: Member[struct_hidden_ptr, Pointer[struct_hidden]]\n" in text
    assert "    kind: int\n" in text
    assert "    LIMIT: Final[int]\n    ONE: Final[int]\n    TWO: Final[int]\n" in text
    line = next(line for line in wrapped(text) if line.startswith("def make("))
    assert line == (
        "def make(self, s: Pointer[struct_seen], from_: Pointer[Byte] | bytes, to: Address, "
        "class_: int, /) -> struct_hidden_ptr: ..."
    )


def wrapped(text):
    """The lines as they would be, were they not broken."""
    joined = text.replace("(\n", "(").replace(",\n        /,\n    )", ", /)").replace(",\n", ", ")
    return [" ".join(line.split()).replace("( ", "(") for line in joined.splitlines()]


@pytest.mark.parametrize(
    "text",
    [
        "union u { int a; };",
        "struct s { int a : 3; };",
        "struct s { struct { int a; } b; };",
        "typedef int number;",
        "extern int variable;",
        "int printf(const char *format, ...);",
        "wchar_t wide(void);",
        'extern "Python" int called(int);',
    ],
)
def test_what_has_no_type_is_refused(text):
    """Rather than left out, or any type."""
    stub = loaded("stub")
    with pytest.raises(stub.UnsupportedError):
        stub.made(text)
