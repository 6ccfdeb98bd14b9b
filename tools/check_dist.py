"""Hold the archives in dist/ against the checkout, then install the wheel and use it.

The sdist has every file that is needed to build, test and document the package; the wheel has the
package, typed, and nothing else; installed into an empty environment, with no checkout in sight,
it copies a file.
"""

import os
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

SDIST_TREES = ["benchmarks", "csrc", "docs", "examples", "spliceio", "tests", "tools"]
SDIST_FILES = [
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "pyproject.toml",
    "setup.py",
]
MADE = {"__pycache__", "_build"}

USE_IT = """
import os, spliceio
source, target = os.memfd_create("source"), os.memfd_create("target")
data = os.urandom(1 << 20)
os.write(source, data)
os.lseek(source, 0, os.SEEK_SET)
result = spliceio.copy(source, target)
assert result.moved == len(data) == os.fstat(target).st_size, result
assert os.pread(target, len(data), 0) == data
print(spliceio.__version__, result.method, os.path.dirname(spliceio.__file__))
"""


def only(directory: Path, pattern: str) -> Path:
    """Return the one file that matches."""
    found = sorted(directory.glob(pattern))
    if len(found) != 1:
        sys.exit(f"check_dist: {directory} has {len(found)} files like {pattern}, not one")
    return found[0]


def sources(root: Path, tree: str) -> set[str]:
    """Return the files below `tree` that a person wrote, relative to `root`."""
    return {
        str(path.relative_to(root))
        for path in (root / tree).rglob("*")
        if path.is_file() and not MADE & set(path.parts) and path.suffix not in {".so", ".pyc"}
    }


def compare(what: str, have: set[str], want: set[str]) -> None:
    """End with a list of what is missing."""
    if missing := sorted(want - have):
        sys.exit(f"check_dist: {what} lacks {', '.join(missing)}")


def check_sdist(sdist: Path, root: Path) -> None:
    """Check that the sdist has every file of every tree."""
    with tarfile.open(sdist) as archive:
        have = {name.partition("/")[2] for name in archive.getnames()}
    want = set(SDIST_FILES).union(*(sources(root, tree) for tree in SDIST_TREES))
    compare(sdist.name, have, want)


def check_wheel(wheel: Path, root: Path) -> None:
    """Check that the wheel has the package, one stable-ABI module, and nothing beside it."""
    if not sysconfig.get_config_var("Py_GIL_DISABLED") and "-cp310-abi3-" not in wheel.name:
        sys.exit(f"check_dist: {wheel.name} is not tagged cp310-abi3")
    with zipfile.ZipFile(wheel) as archive:
        have = set(archive.namelist())
    compare(
        wheel.name, have, sources(root, "spliceio") | {"spliceio/py.typed", "spliceio/_cffi.pyi"}
    )
    if not any(name.startswith("spliceio/_cffi.") and name.endswith(".so") for name in have):
        sys.exit(f"check_dist: {wheel.name} has no compiled module")
    if strays := sorted(n for n in have if not n.startswith(("spliceio/", "spliceio-"))):
        sys.exit(f"check_dist: {wheel.name} also has {', '.join(strays)}")


def use_wheel(wheel: Path) -> None:
    """Install the wheel where nothing else is, import it and run its command."""
    with tempfile.TemporaryDirectory(prefix="spliceio-wheel-") as name:
        place = Path(name)
        venv.create(place / "venv", with_pip=True)
        program = str(place / "venv/bin/python")
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

        def run(*command: str) -> None:
            if subprocess.run(command, cwd=place, env=environment).returncode:
                sys.exit(f"check_dist: in an empty environment, {Path(command[0]).name} failed")

        run(program, "-m", "pip", "install", "--quiet", str(wheel.resolve()))
        run(program, "-W", "error", "-c", USE_IT)
        (place / "from").write_bytes(os.urandom(100_000))
        run(str(place / "venv/bin/spliceio"), "cp", "from", "to")
        if (place / "to").read_bytes() != (place / "from").read_bytes():
            sys.exit("check_dist: spliceio cp made a different file")


def main() -> None:
    """Check the two archives in the directory that is named."""
    dist, root = Path(sys.argv[1]), Path(__file__).resolve().parent.parent
    wheel = only(dist, "*.whl")
    check_sdist(only(dist, "*.tar.gz"), root)
    check_wheel(wheel, root)
    use_wheel(wheel)
    print(f"check_dist: {wheel.name} and its sdist are complete")


if __name__ == "__main__":
    main()
