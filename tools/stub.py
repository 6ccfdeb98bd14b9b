"""Write spliceio/_cffi.pyi, the types of the compiled module, from csrc/api.h.

    python tools/stub.py            write it
    python tools/stub.py --check    fail if it is not what would be written

The header is parsed as cffi parses it, by pycparser, and cffi says what each type is. Of a struct X
comes `struct_X`, and `struct_X_ptr` for a pointer to it; both have its fields, unless it is opaque.

A declaration that has no type here, such as a union or a bit field, is an error: it needs one.
"""

from __future__ import annotations

import keyword
import sys
from collections.abc import Iterator
from pathlib import Path

from cffi import FFI
from cffi.cparser import Parser
from pycparser import c_ast
from pycparser.c_generator import CGenerator

ROOT = Path(__file__).resolve().parent.parent
HEADER = ROOT / "csrc" / "api.h"
HEAD = ROOT / "tools" / "stub_head.pyi"
STUB = ROOT / "spliceio" / "_cffi.pyi"
WIDTH = 100

sys.path.insert(0, str(HEADER.parent))
from build_ffi import INTERFACE, declarations  # noqa: E402 - beside the header, in no package

# Pointers to these are passed for one another.
CHARS = {"char", "signed char", "unsigned char"}
# Bytes are an initializer of arrays of these.
BYTES = {*CHARS, "int8_t", "uint8_t"}
FLOATS = {"float", "double", "long double"}
STRANGE = {"wchar_t", "char16_t", "char32_t", "_cffi_float_complex_t", "_cffi_double_complex_t"}

NOTICE = """\
# Made by tools/stub.py from csrc/api.h, and tools/stub_head.pyi: change those, then `make stub`.
#
# At run time the module has `ffi` and `lib` alone. The types are for annotations: import them where
# TYPE_CHECKING is true.
"""


class UnsupportedError(Exception):
    """The header declares what the stub has no type for."""


class Header:
    """What stands between the marker lines of api.h, in its order."""

    def __init__(self, text: str) -> None:
        self.ffi = FFI()
        self.ffi.cdef(text)
        # The parser of cffi knows what cffi forgets: the names of parameters, and const. What it
        # declares for itself comes first, up to this name.
        tree, macros, _ = Parser()._parse(text)
        names = [node.name for node in tree.ext]
        self.nodes = tree.ext[names.index("__dotdotdot__") + 1 :]
        self.constants = [*macros, *self._enumerators()]

    def _enumerators(self) -> Iterator[str]:
        for node in self.nodes:
            if isinstance(node.type, c_ast.Enum) and node.type.values is not None:
                yield from (one.name for one in node.type.values.enumerators)

    def structs(self) -> list[FFI.CType]:
        """Return all structs, opaque ones too, by their names."""
        typedefs, structs, unions = self.ffi.list_types()
        if typedefs or unions:
            raise UnsupportedError(f"typedefs and unions: {', '.join((*typedefs, *unions))}")
        return [self.ffi.typeof(f"struct {name}") for name in sorted(structs)]

    def functions(self) -> Iterator[tuple[str, FFI.CType, list[c_ast.Node]]]:
        """Yield the name of each function, its type, and its parameters; of f(void) that one."""
        for node in self.nodes:
            if node.name is None:
                continue
            if not isinstance(node.type, c_ast.FuncDecl) or "extern" in node.storage:
                raise UnsupportedError(f'{node.name}: a variable, or extern "Python"')
            pointer = CGenerator().visit(c_ast.PtrDecl([], node.type))
            parameters = node.type.args.params if node.type.args else []
            yield node.name, self.ffi.typeof(pointer), parameters


class Types:
    """C types as annotations; `pointees` are those that something points at, by their C names."""

    def __init__(self) -> None:
        self.pointees: dict[str, FFI.CType] = {}

    def name(self, ctype: FFI.CType) -> str:
        """Return what a struct, or a type that is not made of others, is called in the stub."""
        name = ctype.cname.replace(" ", "_")
        if ctype.kind == "struct" and name.isidentifier():  # that of one without a tag has a "$"
            return name
        if ctype.cname in STRANGE or ctype.kind not in ("primitive", "void"):
            raise UnsupportedError(f"{ctype.cname} ({ctype.kind})")
        return f"c_{name}"

    def scalar(self, ctype: FFI.CType) -> str:
        """Return what a number or character is in Python."""
        self.name(ctype)
        if ctype.cname in FLOATS:
            return "float"
        return {"char": "bytes", "_Bool": "bool"}.get(ctype.cname, "int")

    def item(self, ctype: FFI.CType) -> str:
        """Return the parameter of `Pointer` and `Array`."""
        if ctype.kind in ("array", "function"):
            raise UnsupportedError(f"a pointer to {ctype.cname}")
        if ctype.kind != "void":
            self.pointees[ctype.cname] = ctype
        return self.read(ctype) if ctype.kind == "pointer" else self.name(ctype)

    def read(self, ctype: FFI.CType) -> str:
        """Return what Python gets: a result, or the value of a field."""
        if ctype.kind == "void":
            return "None"
        if ctype.kind == "enum":
            return "int"
        if ctype.kind == "pointer":
            return self.pointer(ctype.item)
        if ctype.kind == "array":
            return f"Array[{self.item(ctype.item)}]"
        if ctype.kind == "function":
            if ctype.ellipsis:
                raise UnsupportedError(f"{ctype.cname}: a variable number of arguments")
            arguments = ", ".join(map(self.taken, ctype.args))
            return f"Function[[{arguments}], {self.read(ctype.result)}]"
        return self.name(ctype) if ctype.kind == "struct" else self.scalar(ctype)

    def pointer(self, item: FFI.CType) -> str:
        """Return what a pointer to `item` is; that to a struct has its fields."""
        found = self.item(item)
        if item.kind == "struct":
            return f"{found}_ptr"
        return f"Pointer[{found}]" if item.kind == "void" else f"Items[{found}]"

    def taken(self, ctype: FFI.CType, *, const: bool = False) -> str:
        """Return what a parameter takes; `const` says that it points at what is not changed."""
        if ctype.kind == "function":
            return f"{self.read(ctype)} | Null"
        if ctype.kind != "pointer":
            return self.read(ctype)
        item = ctype.item
        known = "Byte" if item.cname in CHARS else self.item(item)
        pointer = "Address" if item.kind == "void" else f"Pointer[{known}]"
        if const and (item.kind == "void" or item.cname in BYTES):
            return f"{pointer} | bytes"
        if const and item.kind == "primitive":
            value = self.scalar(item)
            return f"{pointer} | list[{value}] | tuple[{value}, ...]"
        return pointer

    def stored(self, ctype: FFI.CType) -> str:
        """Return what a field, or an item of an array, can be set to."""
        if ctype.kind == "struct":
            return f"{self.name(ctype)} | Fields"
        return self.many(ctype.item) if ctype.kind == "array" else self.taken(ctype)

    def many(self, item: FFI.CType) -> str:
        """Return what an array can be set to."""
        found = f"Array[{self.item(item)}] | Sequence[{self.stored(item)}]"
        return f"{found} | bytes" if item.cname in BYTES else found

    def field(self, ctype: FFI.CType) -> str:
        """Return the annotation of a field."""
        get, put = self.read(ctype), self.stored(ctype)
        return get if get == put else f"Member[{get}, {put}]"


def struct_lines(types: Types, ctype: FFI.CType) -> Iterator[str]:
    """Yield the classes of a struct and of a pointer to it."""
    name = types.name(ctype)
    if ctype.fields is None:
        yield f"class {name}(Opaque): ..."
        yield f"class {name}_ptr(Pointer[{name}]): ..."
        return
    yield f"class _{name}:"
    for field, member in ctype.fields:
        if member.bitsize >= 0 or not field:
            raise UnsupportedError(f"{ctype.cname}.{field}: a bit field, or one without a name")
        # Such a one is reached by getattr() and setattr(), and has no type.
        prefix = "# " if keyword.iskeyword(field) else ""
        yield f"    {prefix}{field}: {types.field(member.type)}"
    yield ""
    yield f"class {name}(_{name}, Struct[{name}_ptr]): ..."
    yield f"class {name}_ptr(_{name}, Items[{name}]): ..."


def function_line(types: Types, name: str, ctype: FFI.CType, parameters: list[c_ast.Node]) -> str:
    """Return the method of `lib` that is a function."""
    if ctype.ellipsis:
        raise UnsupportedError(f"{name}: a variable number of arguments")
    arguments = ["self"]
    for number, argument in enumerate(ctype.args):
        node = parameters[number]
        called = node.name or f"argument_{number}"
        called += "_" * keyword.iskeyword(called)
        points = isinstance(node.type, c_ast.PtrDecl | c_ast.ArrayDecl)
        const = points and "const" in getattr(node.type.type, "quals", ())
        arguments.append(f"{called}: {types.taken(argument, const=const)}")
    return f"    def {name}({', '.join(arguments)}, /) -> {types.read(ctype.result)}: ..."


def spelled(ctype: FFI.CType, end: str) -> str:
    """Return a pointer or an array as one writes it: "struct x *", "char **", "void *[]"."""
    name = ctype.cname.replace("* *", "**")
    return f"{name} {end}" if end == "*" and not name.endswith("*") else f"{name}{end}"


def overload(method: str, cdecls: list[str], parameters: str, result: str) -> list[str]:
    """Return a case of a method of `ffi`, for what these strings declare."""
    literals = ", ".join(f'"{one}"' for one in cdecls)
    line = f"    def {method}(self, cdecl: Literal[{literals}], {parameters}) -> {result}: ..."
    return ["    @overload", line]


def ffi_lines(types: Types, structs: list[FFI.CType]) -> Iterator[str]:
    """Yield what `ffi` can make: whatever something in the header points at, and every struct."""
    new, cast, views = [], [], []
    for ctype in structs:
        types.item(ctype)
    for _, ctype in sorted(types.pointees.items()):
        pointer, array, item = spelled(ctype, "*"), spelled(ctype, "[]"), types.item(ctype)
        found = types.pointer(ctype)
        cast += overload("cast", [pointer], "value: CData | int, /", found)
        if ctype.kind == "struct" and ctype.fields is None:
            continue
        new += overload("new", [pointer], f"init: {types.stored(ctype)} = ..., /", found)
        new += overload("new", [array], f"init: int | {types.many(ctype)}, /", f"Array[{item}]")
        if ctype.kind == "primitive":
            parameters = "memory: Buffer, require_writable: bool = ..., /"
            views += overload("from_buffer", [array], parameters, f"Array[{item}]")
    yield from new
    yield from cast
    yield from overload("cast", ["void *"], "value: CData | int, /", "Pointer[c_void]")
    yield from overload("cast", ["intptr_t", "uintptr_t"], "value: CData | int, /", "Integer")
    yield "    @overload"
    yield "    def from_buffer(self, memory: Buffer, /) -> Array[c_char]: ..."
    yield from views
    complete = [ctype.cname for ctype in structs if ctype.fields is not None]
    yield from overload("typeof", complete, "/", "StructType")
    yield "    @overload"
    yield "    def typeof(self, cdecl: CData | str, /) -> CType: ..."


def made(text: str) -> str:
    """Return the stub for the declarations of a header."""
    header, types = Header(text), Types()
    structs = header.structs()
    blocks = [[*struct_lines(types, ctype), ""] for ctype in structs]
    library = [f"    {name}: Final[int]" for name in header.constants]
    library += [function_line(types, *function) for function in header.functions()]
    ffi = list(ffi_lines(types, structs))
    scalars = [
        f"class {types.name(ctype)}(Scalar[{types.scalar(ctype)}]): ..."
        for name, ctype in sorted(types.pointees.items())
        if ctype.kind == "primitive" and name not in CHARS
    ]
    lines = [
        *("", "# -- of csrc/api.h: the types " + "-" * 69, "", *scalars, ""),
        *(line for block in blocks for line in block),
        *("# -- the functions and constants " + "-" * 66, "", "class Lib:", *library, ""),
        *("# -- what cffi makes " + "-" * 78, "", "class FFI(_FFI):", *ffi, ""),
        *("ffi: Final[FFI]", "lib: Final[Lib]"),
    ]
    return NOTICE + "\n" + HEAD.read_text() + "\n".join(map(wrapped, lines)) + "\n"


def wrapped(line: str) -> str:
    """Give each parameter a line of its own where all are too many for one."""
    if len(line) <= WIDTH or line.lstrip().startswith("#"):
        return line
    indent = " " * (len(line) - len(line.lstrip()))
    opening, closing = "()" if " def " in line else "[]"
    head, _, rest = line.partition(opening)
    inner, _, tail = rest.rpartition(closing)
    parts = [wrapped(f"{indent}    {part},") for part in split(inner)]
    return "\n".join([head + opening, *parts, indent + closing + tail])


def split(text: str) -> Iterator[str]:
    """Split at the commas that are in no bracket."""
    begin = depth = 0
    for end, char in enumerate(text):
        depth += (char in "([") - (char in ")]")
        if char == "," and not depth:
            yield text[begin:end].strip()
            begin = end + 1
    yield text[begin:].strip()


def main() -> None:
    """Write the stub, or with --check compare it."""
    want = made(declarations(INTERFACE))
    if sys.argv[1:] == ["--check"]:
        if not STUB.exists() or STUB.read_text(encoding="utf-8") != want:
            sys.exit(f"stub: {STUB.relative_to(ROOT)} is not that of csrc/api.h: run `make stub`")
        return
    if sys.argv[1:]:
        sys.exit("usage: stub.py [--check]")
    STUB.write_text(want, encoding="utf-8")


if __name__ == "__main__":
    main()
