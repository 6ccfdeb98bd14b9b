#!/bin/sh
# Usage: cwarn.sh PYTHON
# Compiles csrc/*/*.c and the C that cffi generates, warnings as errors. The generated file is not
# ours to change, so it is held to fewer of them.
set -eu
python=$1
out=build/cwarn
rm -rf "$out"
mkdir -p "$out"
compiler=${CC:-$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("CC"))')}
include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
every="-std=c11 -O2 -Werror -Wall -Wextra -Wconversion -Wshadow -fvisibility=hidden -D_FILE_OFFSET_BITS=64 -Icsrc"
ours="-Wpedantic -Wmissing-prototypes -fanalyzer"

echo 'int x;' >"$out/try.c"
if ! $compiler -fanalyzer -c -o "$out/try.o" "$out/try.c" 2>/dev/null; then
	echo "cwarn: $compiler has no -fanalyzer, which is gcc's; run this with CC=gcc" >&2
	exit 1
fi

for source in csrc/*/*.c; do
	echo "cwarn: $source"
	$compiler $every $ours -c -o "$out/$(echo "$source" | tr / _).o" "$source"
done
echo "cwarn: what cffi generates"
"$python" csrc/build_ffi.py "$out/_cffi.c"
$compiler $every -fPIC -isystem "$include" -c -o "$out/_cffi.o" "$out/_cffi.c"
