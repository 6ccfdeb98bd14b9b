#!/bin/sh
# Usage: check_python.sh PYTHON
# Says in one line what keeps PYTHON from making the virtual environment; silent when nothing does.
python=$1

missing() {
	echo "spliceio: $*" >&2
	exit 1
}

[ "$(uname -s)" = Linux ] || missing "this is $(uname -s); splice, tee and vmsplice exist on Linux only"
command -v "$python" >/dev/null 2>&1 || missing "no $python: apt-get install python3 python3-venv"
version=$("$python" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) ||
	missing "$python is there but does not run; try another: make PYTHON=python3.X"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
	missing "$python is Python $version, 3.10 or newer is needed: make PYTHON=python3.X"
# Debian keeps ensurepip, which venv cannot do without, in the package named -venv.
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
	missing "$python has no venv module: apt-get install $(basename "$python")-venv"
