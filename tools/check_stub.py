"""Check that mypy, by spliceio/_cffi.pyi, reports each mistake of tools/stub_cases.py, and no more.

A stub of which every name is Any passes every other check.
"""

import re
import subprocess
import sys
from pathlib import Path

CASES = Path(__file__).resolve().with_name("stub_cases.py")


def expected() -> set[tuple[int, str]]:
    """Return the lines that have to be reported, each with its code."""
    lines = CASES.read_text(encoding="utf-8").splitlines()
    found = ((number, re.search(r"# \[([\w-]+)\]$", line)) for number, line in enumerate(lines, 1))
    return {(number, match[1]) for number, match in found if match}


def reported() -> set[tuple[int, str]]:
    """Return what mypy says of them."""
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-pretty", "--no-color-output", str(CASES)],
        cwd=CASES.parent.parent,
        stdout=subprocess.PIPE,
        text=True,
    )
    errors = re.findall(r"^(.*?):(\d+): error: .*  \[([\w-]+)\]$", done.stdout, re.M)
    if done.returncode != 1 or not all(Path(path).name == CASES.name for path, _, _ in errors):
        sys.exit(f"check_stub: mypy did not do what it is run for:\n{done.stdout}")
    return {(int(line), code) for _, line, code in errors}


def main() -> None:
    """Compare the two."""
    want, have = expected(), reported()
    for line, code in sorted(want - have):
        print(f"{CASES.name}:{line}: mypy does not report this mistake as [{code}]")
    for line, code in sorted(have - want):
        print(f"{CASES.name}:{line}: mypy reports [{code}], which is not expected")
    if want != have or not want:
        sys.exit(1)
    print(f"check_stub: mypy reports all {len(want)} mistakes, and nothing else")


if __name__ == "__main__":
    main()
