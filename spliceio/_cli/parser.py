"""Argument parser: the commands, their options, and the standard streams that they need.

Loads what a command needs when it runs, so that each begins as fast as it can. What is wrong with
the arguments is printed with the usage, and status 2; nothing is opened before all are parsed.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from .. import __version__
from . import commands as _commands
from . import standard, trace
from .standard import STDERR, STDIN, STDOUT
from .tee_options import MODES
from .types import (
    address,
    bound,
    count,
    digest,
    keepalive,
    listener,
    metrics_address,
    names,
    positive_seconds,
    proxy_protocol,
    seconds,
    size,
    target,
    threads,
)

__all__ = ["NEEDS", "USAGE", "parser"]

USAGE = 2


def _tee(args: argparse.Namespace) -> None:
    from . import tee  # hashes, and what fans out, are for this one alone

    tee.run(args)


def _proxy(args: argparse.Namespace) -> None:
    from . import proxy  # as do threads and the engine

    proxy.run(args)


def serve(args: argparse.Namespace) -> None:
    from . import serve  # http.server takes longer to load than most commands to run

    serve.run(args)


class Parser(argparse.ArgumentParser):
    """A parser that writes to standard output or standard error, never to one for the other."""

    options_between = False
    """Whether options may stand between the places; argparse takes the first for their end."""

    def parse_known_args(  # type: ignore[override]  # that has overloads for other namespaces
        self,
        args: Sequence[str] | None = None,
        namespace: argparse.Namespace | None = None,
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse arguments; options may stand between the positional ones."""
        if not self.options_between:
            return super().parse_known_args(args, namespace)
        self.options_between = False  # it comes back here, for each half
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self.options_between = True

    def print_help(self, file: Any = None) -> None:
        """Print the help; on standard output all of it, or raise OSError."""
        if file is None:
            standard.show(self.format_help())
        else:
            super().print_help(file)

    def error(self, message: str) -> NoReturn:
        """Print the usage and what is wrong, and exit with status 2."""
        if sys.stderr is not None:  # or the usage would go to standard output
            with contextlib.suppress(OSError):  # of a standard error that is full, until 3.11
                super().error(message)
        sys.exit(USAGE)


class Version(argparse.Action):
    """The action of --version."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Print it, or raise OSError."""
        standard.show(f"spliceio {__version__}\n")
        parser.exit()


def _dashes(src: str, dst: str = "") -> list[int]:
    """Return the standard streams that "-" stands for."""
    return [STDIN] * (src == "-") + [STDOUT] * (dst == "-")


# Which of descriptors 0 to 2 a command does not begin without, given its arguments. The report of
# `trace COMMAND` is all that it is run for; what others say on standard error may be lost.
NEEDS: dict[str, Callable[[argparse.Namespace], Sequence[int]]] = {
    "pipe": lambda args: (STDIN, STDOUT),
    "tee": lambda args: (STDIN,),  # any output may be missing: the others are served
    "cp": lambda args: _dashes(args.src, args.dst),
    "send": lambda args: _dashes(args.file),
    "recv": lambda args: _dashes("", args.file),
    "connect": lambda args: (STDIN, STDOUT),
    "proxy": lambda args: (STDOUT,) if args.stats else (),
    "serve": lambda args: (),
    "trace": lambda args: () if args.output else (STDOUT,) if args.pid else (STDERR,),
    "explain": lambda args: (*_dashes(args.src, args.dst), STDOUT),
    "features": lambda args: (STDOUT,),
}


class Commands:
    """The subcommands, added to an argument parser."""

    def __init__(self, top: Parser) -> None:
        self.added = top.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)

    def add(
        self,
        run: Callable[[argparse.Namespace], None],
        name: str,
        text: str,
        *,
        progress: bool = False,
    ) -> Parser:
        """Add a subcommand, and return its parser for its arguments; NEEDS has to have its name."""
        sub = self.added.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        sub.set_defaults(run=run, name=name, needs=NEEDS[name], usage_error=sub.error)
        if progress:
            sub.add_argument("--progress", action="store_true", help="draw a bar (needs rich)")
        return sub


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    top = Parser(
        prog="spliceio",
        description="Move bytes between files, pipes and sockets inside the Linux kernel.",
        epilog="Addresses are host:port, [v6]:port, :port, unix:/path or unix:@name. "
        "Sizes take K, M, G or T.",
    )
    text = "show program's version number and exit"
    top.add_argument("--version", action=Version, nargs=0, help=text)
    commands = Commands(top)
    _describe_copies(commands)
    _describe_connections(commands)
    _describe_servers(commands)
    _describe_questions(commands)
    return top


def _describe_tee(commands: Commands) -> None:
    text = "standard input to standard output and to files"
    sub = commands.add(_tee, "tee", text, progress=True)
    sub.add_argument("files", metavar="FILE", nargs="*", help="beside standard output")
    sub.add_argument("-a", "--append", action="store_true", help="append, do not overwrite")
    sub.add_argument(
        "-i", "--ignore-interrupts", action="store_true", help="ignore interrupt signals"
    )
    sub.add_argument(
        "-p",
        dest="output_error",
        action="store_const",
        const=MODES[0],
        help="go on when the reader of a pipe has gone",
    )
    text = "when an output fails: %(choices)s (warn-nopipe if MODE is left out)"
    sub.add_argument("--output-error", choices=MODES, metavar="MODE", help=text)
    text = "what to do about an output that stalls (wait)"
    sub.add_argument("--on-slow", choices=("wait", "drop"), default="wait", help=text)
    sub.add_argument(
        "--stall-timeout",
        type=positive_seconds,
        default=5.0,
        metavar="SECONDS",
        help="drop an output that takes nothing for so long (5)",
    )
    text = "print a digest of what passed on standard error; may be repeated"
    sub.add_argument("--hash", type=digest, action="append", default=[], metavar="NAME", help=text)


def _describe_copies(commands: Commands) -> None:
    sub = commands.add(_commands.pipe, "pipe", "standard input to standard output", progress=True)
    sub.add_argument("-s", "--size", type=size, metavar="SIZE", help="stop after so many bytes")
    _describe_tee(commands)
    sub = commands.add(_commands.cp, "cp", "copy one file to another", progress=True)
    sub.add_argument("src", metavar="SRC")
    sub.add_argument("dst", metavar="DST")
    when = ("auto", "always", "never")
    sub.add_argument("--reflink", choices=when, default="auto", help="share blocks (auto)")
    sub.add_argument("--sparse", choices=when, default="auto", help="make holes (auto: keep them)")
    sub.add_argument(
        "-p",
        dest="preserve",
        action="append_const",
        const="standard",
        default=[],
        help="the same as --preserve standard: mode, ownership and timestamps, as far as allowed",
    )
    sub.add_argument(
        "--preserve",
        type=names,
        action="extend",
        metavar="LIST",
        default=[],
        help="mode, ownership, timestamps, xattr, standard or all; several with commas; adds up",
    )
    sub.add_argument("-n", "--no-clobber", action="store_true", help="fail if DST is there")


def _describe_connections(commands: Commands) -> None:
    sub = commands.add(_commands.send, "send", "connect and send a file", progress=True)
    sub.add_argument("file", metavar="FILE", help="- is standard input")
    sub.add_argument("to", type=target, metavar="HOST:PORT")
    text = "accept one connection and write a file"
    sub = commands.add(_commands.recv, "recv", text, progress=True)
    text = "of every address of this machine; or an address"
    sub.add_argument("port", type=address, metavar="PORT", help=text)
    sub.add_argument("file", metavar="FILE", help="- is standard output")
    sub = commands.add(_commands.connect, "connect", "standard input and output to a connection")
    sub.add_argument("to", type=target, metavar="HOST:PORT")
    text = "end when nothing moves for so long"
    sub.add_argument("--idle-timeout", type=positive_seconds, metavar="SECONDS", help=text)


def _describe_proxy(sub: argparse.ArgumentParser) -> None:
    text = "an address, or systemd for the sockets that it passes"
    sub.add_argument("listen", type=listener, metavar="LISTEN", help=text)
    text = "an address; of several, each takes its turn"
    sub.add_argument("upstream", type=target, nargs="*", metavar="UPSTREAM", help=text)
    text = "upstreams from a file, an address a line; SIGHUP reads it again"
    sub.add_argument("--upstreams", metavar="FILE", help=text)
    sub.add_argument(
        "--listen",
        type=listener,
        action="append",
        default=[],
        dest="also",
        metavar="ADDR",
        help="listen there too; may be repeated",
    )
    sub.add_argument("--threads", type=threads, default=1, metavar="N", help="engine threads (1)")
    text = "close a connection on which nothing moves for so long"
    sub.add_argument("--idle-timeout", type=positive_seconds, metavar="SECONDS", help=text)
    text = "ask a TCP peer that is silent for so long whether it is there, or off (60)"
    sub.add_argument("--keepalive", type=keepalive, default=60, metavar="SECONDS", help=text)
    text = "how long an upstream may take to answer (10)"
    sub.add_argument(
        "--connect-timeout", type=positive_seconds, default=10, metavar="SECONDS", help=text
    )
    text = "let more wait in the backlog"
    sub.add_argument("--max-connections", type=count, metavar="N", help=text)
    text = "send the upstream a header that names the client"
    sub.add_argument("--proxy-protocol", type=proxy_protocol, metavar="{1,2}", help=text)
    sub.add_argument(
        "--trust-proxy-protocol",
        action="append",
        default=[],
        metavar="NETWORK",
        help="expect such a header from there (10.0.0.0/8, unix) and believe it; may be repeated",
    )
    text = "share the address with other processes"
    sub.add_argument("--reuse-port", action="store_true", help=text)
    text = "how bytes move (auto: spliced where the kernel can)"
    sub.add_argument("--method", choices=("auto", "read_write"), default="auto", help=text)
    text = "after SIGTERM, let open connections end for so long (10)"
    sub.add_argument("--drain", type=seconds, default=10.0, metavar="SECONDS", help=text)
    text = "counts for Prometheus at http://ADDR/metrics (needs prometheus-client)"
    sub.add_argument("--metrics", type=metrics_address, metavar="ADDR", help=text)
    sub.add_argument("--live", action="store_true", help="a line of counts (needs rich)")
    sub.add_argument("-v", "--verbose", action="store_true", help="log every connection")
    sub.add_argument("--stats", action="store_true", help="print counts as JSON at the end")


def _describe_servers(commands: Commands) -> None:
    sub = commands.add(_proxy, "proxy", "relay every connection to another address")
    sub.options_between = True
    _describe_proxy(sub)
    sub = commands.add(serve, "serve", "the files of a directory over HTTP, by sendfile")
    sub.add_argument("directory", metavar="DIR")
    sub.add_argument(
        "--bind",
        type=bound,
        default="127.0.0.1:8000",
        metavar="ADDR",
        help="%(default)s if none",
    )
    sub.add_argument(
        "--timeout",
        type=positive_seconds,
        default="60",
        metavar="SECONDS",
        help="close a connection on which nothing moves for so long (%(default)s)",
    )
    sub.add_argument(
        "--max-connections",
        type=count,
        default="10000",
        metavar="N",
        help="the next ones wait (%(default)s, or what the limit of descriptors allows)",
    )
    sub.add_argument(
        "--max-head",
        type=count,
        default="65536",
        metavar="BYTES",
        help="of a request's head; a longer one is 414 or 431 (%(default)s)",
    )
    sub.add_argument(
        "--pin", action="store_true", help="keep the directory, though its name becomes another's"
    )
    sub.add_argument("--quiet", action="store_true", help="log errors only")


def _describe_questions(commands: Commands) -> None:
    text = "say by which system calls a program moves its bytes"
    sub = commands.add(trace.run, "trace", text)
    text = "attach to it and to what it has started; may be repeated, or a list: 12,13"
    sub.add_argument("-p", "--pid", type=trace.pids, action="append", metavar="PID", help=text)
    sub.add_argument("-o", "--output", metavar="FILE", help="write the report there")
    sub.add_argument("--json", action="store_true", help="the report as JSON")
    sub.add_argument(
        "--seconds", type=positive_seconds, metavar="N", help="with -p: end after so long"
    )
    sub.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="run it")
    sub.usage = "%(prog)s [-h] [-o FILE] [--json] (-p PID [--seconds N] | [--] COMMAND ...)"
    text = "say how bytes would go from one to the other"
    sub = commands.add(_commands.explain, "explain", text)
    sub.add_argument("src", metavar="SRC", help="a path, -, tcp, unix or pipe")
    sub.add_argument("dst", metavar="DST", help="a path, -, tcp, unix or pipe")
    commands.add(_commands.features, "features", "probe what this kernel and sandbox do")
