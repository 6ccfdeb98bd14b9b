#!/bin/sh
# Usage: sanitize.sh PYTHON [PYTEST ARGUMENT...]
# Runs the tests against a copy of the tree whose C is built with ASan and UBSan.
set -eu
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
shift
copy=build/sanitize
rm -rf "$copy"
mkdir -p "$copy"
for entry in *; do
	[ "$entry" = build ] || [ -e "$entry/pyvenv.cfg" ] || cp -R "$entry" "$copy"
done
cd "$copy"
rm -f spliceio/_cffi*.so

compiler=${CC:-$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("CC"))')}
# gcc's shared libubsan, loaded beside libasan, does not read log_path; the static one does.
CFLAGS="-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined" \
	LDFLAGS="-fsanitize=address,undefined -static-libubsan" \
	"$python" setup.py -q build_ext --inplace

# Python itself is not built with ASan, so its runtime has to be there before the first library.
# Python leaves much of its memory to the exit, which would all be called leaks: detect_leaks=0.
LD_PRELOAD=$($compiler -print-file-name=libasan.so)
export LD_PRELOAD
# Reports go to files: pytest holds back what a dying process writes, and a child's may go unread.
export ASAN_OPTIONS="detect_leaks=0:abort_on_error=1:allocator_may_return_null=1:log_path=$PWD/report"
export UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1:log_path=$PWD/report"
export PYTHONPATH="$PWD"
"$python" - <<'CHECK'
import spliceio._cffi as built, pathlib, sys
path = pathlib.Path(built.__file__)
if path.parent.parent != pathlib.Path.cwd() or b"__asan_init" not in path.read_bytes():
    sys.exit(f"sanitize: {path} is not the instrumented build")
print(f"sanitize: testing {path}")
CHECK
status=0
"$python" -m pytest "$@" || status=$?
for report in report.*; do
	[ -e "$report" ] || continue
	cat "$report"
	status=1
done
exit "$status"
