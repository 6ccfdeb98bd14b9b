"""The command line: `spliceio`, or `python -m spliceio`.

Behaves as a Unix tool: errors are one line on standard error, the status is 1 for a failure, 2 for
wrong usage, 130 after Ctrl-C, and a reader that goes away ends it quietly (141, as a shell shows
the death by SIGPIPE).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
from collections.abc import Callable

from . import __version__, _address, _commands, _progress, _trace

FAILURE, USAGE, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141
_WRITES_STDOUT = ("pipe", "recv", "connect", "explain", "features", "trace")
_LONGEST = 1e6
_MOST = 1_000_000
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def size(text: str) -> int:
    """Read a number of bytes such as 4096, 64K or 1GiB."""
    found = re.fullmatch(r"(\d+)([kmgt]?)(?:(?<=[kmgt])i)?b?", text.lower(), re.ASCII)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write 4096, 64K, 10M or 1G")
    return int(found[1]) * _UNITS[found[2]]


def address(text: str) -> _address.Address:
    """Read an address, and let argparse say what is wrong with it."""
    try:
        return _address.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def tcp_address(text: str) -> _address.Address:
    """Read an address that has a port."""
    found = address(text)
    if found.path:
        raise argparse.ArgumentTypeError(f"{text!r}: it takes host:port, and no unix socket")
    return found


def names(text: str) -> list[str]:
    """Read a list with commas."""
    return text.split(",")


def patience(text: str) -> float:
    """Read a time to wait: seconds, more than none and less than for ever."""
    with contextlib.suppress(ValueError):
        if 0 < float(text) <= _LONGEST:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")


def not_negative(text: str) -> float:
    """Read a number of seconds, 0 among them."""
    return 0.0 if text.strip("0") in ("", ".") and text.strip(".") else patience(text)


def count(text: str) -> int:
    """Read a number of things, at least one."""
    if text.isascii() and text.isdigit() and 0 < int(text) <= _MOST:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to {_MOST}")


def listener(text: str) -> _address.Address | str:
    """Read an address, or the word for what systemd passes."""
    return text if text == "systemd" else address(text)


def _proxy(args: argparse.Namespace) -> None:
    from . import _proxy_command  # as do threads and the engine

    _proxy_command.run(args)


def _serve(args: argparse.Namespace) -> None:
    from . import _serve  # http.server takes longer to load than most commands to run

    _serve.run(args)


class Commands:
    """The subcommands of the command line, as they are described to argparse."""

    def __init__(self, top: argparse.ArgumentParser) -> None:
        self.added = top.add_subparsers(metavar="COMMAND", required=True)

    def add(
        self,
        run: Callable[[argparse.Namespace], None],
        name: str,
        text: str,
        *,
        progress: bool = False,
    ) -> argparse.ArgumentParser:
        """Add one, whose arguments are added to what is returned."""
        sub = self.added.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        sub.set_defaults(run=run, name=name)
        if progress:
            sub.add_argument("--progress", action="store_true", help="draw a bar (needs rich)")
        return sub


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    top = argparse.ArgumentParser(
        prog="spliceio",
        description="Move bytes between files, pipes and sockets inside the Linux kernel.",
        epilog="Addresses are host:port, [v6]:port, :port or unix:/path. Sizes take K, M, G or T.",
    )
    top.add_argument("--version", action="version", version=f"spliceio {__version__}")
    commands = Commands(top)
    _describe_copies(commands)
    _describe_connections(commands)
    _describe_servers(commands)
    _describe_questions(commands)
    return top


def _describe_copies(commands: Commands) -> None:
    sub = commands.add(_commands.pipe, "pipe", "standard input to standard output", progress=True)
    sub.add_argument("-s", "--size", type=size, metavar="SIZE", help="stop after so many bytes")
    sub = commands.add(_commands.cp, "cp", "copy one file to another", progress=True)
    sub.add_argument("src", metavar="SRC")
    sub.add_argument("dst", metavar="DST")
    when = ("auto", "always", "never")
    sub.add_argument("--reflink", choices=when, default="auto", help="share blocks (auto)")
    sub.add_argument("--sparse", choices=when, default="auto", help="make holes (auto: keep them)")
    sub.add_argument(
        "-p",
        dest="preserve",
        action="store_const",
        const=("mode", "ownership", "timestamps"),
        default=(),
        help="the same as --preserve mode,ownership,timestamps",
    )
    sub.add_argument(
        "--preserve",
        type=names,
        metavar="LIST",
        default=(),
        help="mode, ownership, timestamps, xattr or all; several with commas",
    )
    sub.add_argument("-n", "--no-clobber", action="store_true", help="fail if DST is there")


def _describe_connections(commands: Commands) -> None:
    sub = commands.add(_commands.send, "send", "connect and send a file", progress=True)
    sub.add_argument("file", metavar="FILE", help="- is standard input")
    sub.add_argument("to", type=address, metavar="HOST:PORT")
    text = "accept one connection and write a file"
    sub = commands.add(_commands.recv, "recv", text, progress=True)
    sub.add_argument("port", type=address, metavar="PORT", help="or an address")
    sub.add_argument("file", metavar="FILE", help="- is standard output")
    sub = commands.add(_commands.connect, "connect", "standard input and output to a connection")
    sub.add_argument("to", type=address, metavar="HOST:PORT")
    sub.add_argument("--idle-timeout", type=float, metavar="SECONDS")


def _describe_proxy(sub: argparse.ArgumentParser) -> None:
    text = "an address, or systemd for the sockets that it passes"
    sub.add_argument("listen", type=listener, metavar="LISTEN", help=text)
    text = "an address; of several, each takes its turn"
    sub.add_argument("upstream", type=address, nargs="*", metavar="UPSTREAM", help=text)
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
    sub.add_argument("--threads", type=count, default=1, metavar="N", help="engine threads (1)")
    text = "close a connection on which nothing moves for so long"
    sub.add_argument("--idle-timeout", type=patience, metavar="SECONDS", help=text)
    text = "how long an upstream may take to answer (10)"
    sub.add_argument("--connect-timeout", type=patience, default=10, metavar="SECONDS", help=text)
    text = "let more wait in the backlog"
    sub.add_argument("--max-connections", type=count, metavar="N", help=text)
    text = "send the upstream a header that names the client"
    sub.add_argument("--proxy-protocol", type=int, choices=(1, 2), help=text)
    sub.add_argument(
        "--trust-proxy-protocol",
        action="append",
        default=[],
        metavar="NETWORK",
        help="expect such a header from there (10.0.0.0/8, unix) and believe it; may be repeated",
    )
    text = "share the address with other processes"
    sub.add_argument("--reuse-port", action="store_true", help=text)
    sub.add_argument("--method", choices=("auto", "read_write"), default="auto")
    text = "after SIGTERM, let open connections end for so long (10)"
    sub.add_argument("--drain", type=not_negative, default=10.0, metavar="SECONDS", help=text)
    text = "counts for Prometheus at http://ADDR/metrics (needs prometheus-client)"
    sub.add_argument("--metrics", type=tcp_address, metavar="ADDR", help=text)
    sub.add_argument("--live", action="store_true", help="a line of counts (needs rich)")
    sub.add_argument("-v", "--verbose", action="store_true", help="log every connection")
    sub.add_argument("--stats", action="store_true", help="print counts as JSON at the end")
    sub.set_defaults(usage_error=sub.error)


def _describe_servers(commands: Commands) -> None:
    sub = commands.add(_proxy, "proxy", "relay every connection to another address")
    _describe_proxy(sub)
    sub = commands.add(_serve, "serve", "the files of a directory over HTTP, by sendfile")
    sub.add_argument("directory", metavar="DIR")
    sub.add_argument(
        "--bind", type=address, default="127.0.0.1:8000", metavar="ADDR", help="%(default)s if none"
    )
    sub.add_argument(
        "--timeout",
        type=patience,
        default="60",
        metavar="SECONDS",
        help="close a connection on which nothing moves for so long (%(default)s)",
    )
    sub.add_argument("--quiet", action="store_true", help="log errors only")


def _describe_questions(commands: Commands) -> None:
    text = "say by which system calls a program moves its bytes"
    sub = commands.add(_trace.run, "trace", text)
    text = "attach to it and to what it has started; may be repeated, or a list: 12,13"
    sub.add_argument("-p", "--pid", type=_trace.pids, action="append", metavar="PID", help=text)
    sub.add_argument("-o", "--output", metavar="FILE", help="write the report there")
    sub.add_argument("--json", action="store_true", help="the report as JSON")
    sub.add_argument(
        "--seconds", type=_trace.seconds, metavar="N", help="with -p: end after so long"
    )
    sub.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="run it")
    sub.usage = "%(prog)s [-h] [-o FILE] [--json] (-p PID [--seconds N] | [--] COMMAND ...)"
    sub.set_defaults(usage_error=sub.error)
    text = "say how bytes would go from one to the other"
    sub = commands.add(_commands.explain, "explain", text)
    sub.add_argument("src", metavar="SRC", help="a path, -, tcp, unix or pipe")
    sub.add_argument("dst", metavar="DST", help="a path, -, tcp, unix or pipe")
    commands.add(_commands.features, "features", "probe what this kernel and sandbox do")


def told(error: OSError) -> str:
    """Put an exception into the words of a Unix tool."""
    text = error.strerror or str(error)
    return f"{os.fsdecode(error.filename)}: {text}" if error.filename is not None else text


def silenced() -> int:
    """Let the interpreter's last flush go nowhere; return the status for a broken pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), _commands.STDOUT)
    return BROKEN_PIPE


def main(argv: list[str] | None = None) -> int:
    """Run one command; return the exit status."""
    try:
        args = parser().parse_args(argv)
    except BrokenPipeError:  # --help into a pipe that nobody reads
        return silenced()
    try:
        if getattr(args, "progress", False):
            _progress.require_rich()
        args.run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError as error:
        if error.filename is None and args.name in _WRITES_STDOUT:
            return silenced()
        print(f"spliceio: {args.name}: {told(error)}", file=sys.stderr)
        return FAILURE
    except OSError as error:
        print(f"spliceio: {args.name}: {told(error)}", file=sys.stderr)
        return FAILURE
    except (ValueError, TypeError) as error:
        print(f"spliceio: {args.name}: {error}", file=sys.stderr)
        return FAILURE
    except _progress.MissingExtra as error:
        print(f"spliceio: {args.name}: {error}", file=sys.stderr)
        return USAGE
    return 0


if __name__ == "__main__":
    sys.exit(main())
