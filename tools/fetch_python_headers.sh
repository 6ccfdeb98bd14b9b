#!/bin/sh
# Usage: fetch_python_headers.sh X.Y DIRECTORY
# Unpacks Debian's libpythonX.Y-dev into DIRECTORY: no root, nothing installed on the system.
set -eu
package=libpython$1-dev
mkdir -p "$2"
directory=$(cd "$2" && pwd)
command -v apt-get >/dev/null
command -v dpkg >/dev/null

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
mkdir -p lists/partial

# Root's apt steps down to a user who cannot write here, unless told not to.
apt() {
	apt-get -qq -o APT::Sandbox::User=root -o Acquire::Retries=1 -o Acquire::http::Timeout=30 "$@"
}
# The system's package lists may be absent or too old to be followed: then read fresh ones, aside.
apt download "$package" 2>/dev/null || {
	apt -o Dir::State::Lists="$scratch/lists" -o Dir::Cache="$scratch" update
	apt -o Dir::State::Lists="$scratch/lists" -o Dir::Cache="$scratch" download "$package"
}
dpkg -x "$package"_*.deb "$directory"
