#!/bin/sh
# Usage: with_compiler.sh PYTHON HEADERS COMMAND...
# Runs COMMAND with CC and C_INCLUDE_PATH set so that it can compile an extension for PYTHON.
# A Python.h that is missing is fetched into the directory HEADERS. What cannot be had is named in
# one line.
python=$1
headers=$2
shift 2

missing() {
	echo "spliceio: $*" >&2
	exit 1
}

ask() {
	"$python" -c "import sysconfig, sys; print($1)"
}

# Python compiles with the compiler that it was built with; CC is set only where that one is absent.
if [ -n "${CC:-}" ]; then
	command -v "${CC%% *}" >/dev/null || missing "CC is $CC, which is not there"
	compiler=$CC
else
	for compiler in "$(ask 'sysconfig.get_config_var("CC") or "cc"')" cc gcc clang none; do
		[ "$compiler" = none ] && missing "no C compiler: apt-get install gcc libc6-dev"
		command -v "${compiler%% *}" >/dev/null && break
	done
	[ "$compiler" = "$(ask 'sysconfig.get_config_var("CC") or "cc"')" ] || export CC="$compiler"
fi

scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT

echo '#include <stdio.h>
int main(void) { return puts("") == EOF; }' >"$scratch/try.c"
$compiler -o "$scratch/try" "$scratch/try.c" 2>"$scratch/log" ||
	missing "$compiler cannot build a program (no C library headers?): apt-get install libc6-dev"

echo '#include <Python.h>' >"$scratch/try.c"
finds_python_h() {
	$compiler -I"$(ask 'sysconfig.get_path("include")')" -I"$(ask 'sysconfig.get_path("platinclude")')" \
		-E "$scratch/try.c" >"$scratch/log" 2>&1
}
version=$(ask '"%d.%d" % sys.version_info[:2]')
if ! finds_python_h; then
	# The package's pyconfig.h includes <TRIPLET/pythonX.Y/pyconfig.h>, so the parent is needed too.
	include=$headers/usr/include
	export C_INCLUDE_PATH="$include/python$version:$include${C_INCLUDE_PATH:+:$C_INCLUDE_PATH}"
	if ! finds_python_h; then
		echo "spliceio: no Python.h for Python $version; fetching libpython$version-dev into $headers"
		sh "$(dirname "$0")/fetch_python_headers.sh" "$version" "$headers" 2>"$scratch/log"
		finds_python_h ||
			missing "no Python.h for Python $version, and fetching failed: apt-get install python3-dev"
	fi
fi

"$@"
