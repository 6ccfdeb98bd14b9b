"""The other contestants: found, installed or built at run time, or named with the reason why not.

C sources are compiled with ``cc -O2`` into the run's own scratch folder, the Go one with
``go build``.
As root on a machine with apt-get, a full run installs the packages that are missing; what comes
from PyPI goes into an environment of its own in the scratch folder.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PACKAGES = {
    "haproxy": "haproxy",
    "go": "golang-go",
    "socat": "socat",
    "pv": "pv",
    "nginx": "nginx-light",
}
VERSION_ARGS = {
    "cat": ["--version"],
    "cc": ["--version"],
    "cp": ["--version"],
    "go": ["version"],
    "haproxy": ["-v"],
    "nginx": ["-v"],
    "pv": ["--version"],
    "socat": ["-V"],
    "tee": ["--version"],
}

# As many as haproxy gives itself for 256 connections. For 10,000 it would count on 2,500, and does
# not start where there are no descriptors for them; each goes back when it is empty.
PIPES = 64


class Missing(Exception):
    """This contestant cannot run here; the message says why."""


class Peers:
    """What was found and built in this run; the binaries lie in `workdir`, which is its owner's."""

    def __init__(self, workdir: Path, *, install: bool) -> None:
        self._workdir = workdir
        self._built: dict[str, Path] = {}
        self._why: dict[str, str] = {}
        self._may_install = install
        if install:
            self._install()

    def _install(self) -> None:
        wanted = [package for tool, package in PACKAGES.items() if not shutil.which(tool)]
        if not wanted:
            return
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            self._why["*"] = "not installed, and only root with apt-get can install it from here"
            return
        print("installing peers: " + " ".join(wanted), file=sys.stderr)
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        apt = ["apt-get", "-qq", "-y", "--no-install-recommends", "install", *wanted]
        done = subprocess.run(apt, env=env, capture_output=True)
        if done.returncode != 0:
            # A fresh machine has no package lists yet.
            subprocess.run(["apt-get", "-qq", "update"], env=env, capture_output=True)
            done = subprocess.run(apt, env=env, capture_output=True)
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            self._why["*"] = "apt-get could not install it: " + (
                said[-1] if said else "no reason given"
            )

    def tool(self, name: str) -> str:
        found = shutil.which(name)
        if found is None:
            raise Missing(self._why.get("*", "not installed"))
        return found

    def c(self, name: str) -> Path:
        """Compile peers/NAME.c, once."""
        if name not in self._built:
            compiler = shutil.which("cc") or shutil.which("gcc")
            if compiler is None:
                raise Missing("no C compiler")
            self._build(
                name, [compiler, "-O2", "-o", str(self._workdir / name), str(HERE / f"{name}.c")]
            )
        return self._built[name]

    def go(self, name: str) -> Path:
        """Build peers/NAME.go, once."""
        if name not in self._built:
            target = str(self._workdir / name)
            self._build(name, [self.tool("go"), "build", "-o", target, str(HERE / f"{name}.go")])
        return self._built[name]

    def with_package(self, name: str) -> Path:
        """Return an interpreter that has a package of PyPI, in an environment made for it."""
        if name not in self._built:
            if not self._may_install:
                raise Missing("not installed in a smoke run")
            where = self._workdir / f"venv-{name}"
            interpreter = where / "bin" / "python"
            pip = [str(interpreter), "-m", "pip", "-q", "--disable-pip-version-check"]
            for command in ([sys.executable, "-m", "venv", str(where)], [*pip, "install", name]):
                done = subprocess.run(command, capture_output=True)
                if done.returncode != 0:
                    said = done.stderr.decode(errors="replace").strip().splitlines()
                    raise Missing(f"pip could not install it: {said[-1] if said else 'no reason'}")
            self._built[name] = interpreter
        return self._built[name]

    def _build(self, name: str, command: list[str]) -> None:
        env = {**os.environ, "GO111MODULE": "off"}
        env.setdefault("GOCACHE", str(self._workdir / "go-cache"))
        done = subprocess.run(command, env=env, capture_output=True)
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip()
            raise Missing(f"{command[0]} failed: {said}")
        self._built[name] = self._workdir / name

    def haproxy_config(
        self,
        listen: int,
        upstream: int,
        *,
        pipe_size: int | None = None,
        maxconn: int = 64,
        splicing: bool = True,
    ) -> Path:
        """Write the settings of a TCP proxy with one thread, and splicing on unless it is not."""
        size = f"    tune.pipesize {pipe_size}\n" if pipe_size else ""
        ways = ("auto", "request", "response") if splicing else ()
        options = "".join(f"    option splice-{way}\n" for way in ways)
        text = (
            "global\n"
            "    nbthread 1\n"
            f"    maxconn {maxconn}\n"
            f"    maxpipes {PIPES}\n"
            f"{size}"
            "defaults\n"
            "    mode tcp\n"
            f"{options}"
            "    timeout connect 5s\n"
            "    timeout client 60s\n"
            "    timeout server 60s\n"
            "listen relay\n"
            f"    bind 127.0.0.1:{listen}\n"
            f"    server upstream 127.0.0.1:{upstream}\n"
        )
        path = self._workdir / "haproxy.cfg"
        path.write_text(text)
        return path

    def nginx_config(self, listen: int, folder: Path) -> Path:
        """Write the settings of a static server: one worker, sendfile, no access log.

        As root it would give its worker to somebody who may not read the scratch folder.
        """
        scratch = self._workdir / "nginx"
        scratch.mkdir(exist_ok=True)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temp = "".join(f"    {kind}_temp_path {scratch}/{kind};\n" for kind in kinds)
        text = (
            f"{'user root;' if os.geteuid() == 0 else ''}\n"
            "daemon off;\n"
            "worker_processes 1;\n"
            f"pid {scratch}/pid;\n"
            "error_log stderr error;\n"
            "events {}\n"
            "http {\n"
            f"{temp}"
            "    sendfile on;\n"
            "    access_log off;\n"
            "    keepalive_requests 1000000;\n"
            f"    server {{ listen 127.0.0.1:{listen}; root {folder}; }}\n"
            "}\n"
        )
        path = scratch / "nginx.conf"
        path.write_text(text)
        return path


def versions() -> dict[str, str]:
    """Ask each peer; keep the first telling line."""
    said = {}
    for tool, args in VERSION_ARGS.items():
        found = shutil.which(tool)
        if found is None:
            continue
        done = subprocess.run([found, *args], capture_output=True, text=True)
        lines = (done.stdout + done.stderr).splitlines()
        telling = [line for line in lines if tool in line.lower() and re.search(r"\d\.\d", line)]
        said[tool] = (telling or ["unknown"])[0].strip()
    return said
