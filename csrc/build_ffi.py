"""Tell cffi what to build: `spliceio._cffi`, from csrc/*/*.c and csrc/api.h.

The interface is written once. What stands in a header between the two marker lines is read by
the C compiler, as part of the header, and by cffi, as its declarations. The package calls what is
in api.h; the two other headers are for the tests.

Run as a program, it writes the C that cffi generates: `python csrc/build_ffi.py OUT.c`.
"""

import sys
from pathlib import Path

from cffi import FFI

BEGIN = "/* cffi: begin */"
END = "/* cffi: end */"

# setuptools wants source paths relative to the project; cffi executes this file with its own
# __file__, from the project's root.
CSRC = Path(__file__).resolve().parent
SOURCES = [f"csrc/{path.relative_to(CSRC)}" for path in sorted(CSRC.rglob("*.c"))]
HEADERS = [f"csrc/{path.relative_to(CSRC)}" for path in sorted(CSRC.rglob("*.h"))]


INTERFACE = "api.h"
FOR_TESTS = ["base/faults.h", "testing/testing.h"]


def declarations(name: str) -> str:
    """Return the part of a header between the marker lines."""
    header = (CSRC / name).read_text(encoding="utf-8")
    lines = [line.strip() for line in header.splitlines()]
    if lines.count(BEGIN) != 1 or lines.count(END) != 1:
        raise ValueError(f"csrc/{name} must have one line {BEGIN!r} and one line {END!r}")
    begin, end = lines.index(BEGIN), lines.index(END)
    if end < begin:
        raise ValueError(f"csrc/{name}: {END!r} comes before {BEGIN!r}")
    return "\n".join(header.splitlines()[begin + 1 : end])


ffibuilder = FFI()
for name in (INTERFACE, *FOR_TESTS):
    ffibuilder.cdef(declarations(name))
ffibuilder.set_source(
    "spliceio._cffi",
    "\n".join(f'#include "{name}"' for name in (INTERFACE, *FOR_TESTS)),
    sources=SOURCES,
    depends=[*HEADERS, "csrc/build_ffi.py"],
    include_dirs=["csrc"],
    define_macros=[("_FILE_OFFSET_BITS", "64")],
    extra_compile_args=["-std=c11", "-Wall", "-Wextra", "-fvisibility=hidden", "-pthread"],
    extra_link_args=["-pthread"],
)

if __name__ == "__main__":
    ffibuilder.emit_c_code(sys.argv[1])
