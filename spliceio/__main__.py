"""The command line: `spliceio`, or `python -m spliceio`.

Behaves as a Unix tool: errors are one line on standard error, the status is 1 for a failure, 2 for
wrong usage, 130 after Ctrl-C, and a reader that goes away ends it quietly (141, as a shell shows
the death by SIGPIPE).
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import re
import select
import signal
import socket
import stat
import sys
from collections.abc import Iterator

from . import __version__, _address, _progress

STDIN, STDOUT = 0, 1
FAILURE, USAGE, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141
_WRITES_STDOUT = ("pipe", "recv", "connect", "explain", "features")
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


@contextlib.contextmanager
def opened(path: str, flags: int, mode: int = 0o666) -> Iterator[int]:
    """Open a file; "-" is standard input or output."""
    if path == "-":
        yield STDIN if flags & os.O_ACCMODE == os.O_RDONLY else STDOUT
        return
    fd = os.open(path, flags | os.O_CLOEXEC, mode)
    try:
        yield fd
    finally:
        os.close(fd)


def regular_size(fd: int) -> int | None:
    """How many bytes a transfer from here will have, where that is known."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or not status.st_size:
        return None
    return max(0, status.st_size - os.lseek(fd, 0, os.SEEK_CUR))


def pipe(args: argparse.Namespace) -> None:
    """Standard input to standard output."""
    from ._copy import copy

    total = args.size if args.size is not None else regular_size(STDIN)
    with _progress.bar(args.progress, "pipe", total) as progress:
        copy(STDIN, STDOUT, args.size, progress=progress)


def cp(args: argparse.Namespace) -> None:
    """One file to another."""
    from ._copy import copy

    with opened(args.src, os.O_RDONLY) as src:
        status = os.fstat(src)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), args.src)
        target = args.dst
        if os.path.isdir(target):
            target = os.path.join(target, os.path.basename(args.src))
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(status, os.stat(target)):
                raise OSError(errno.EINVAL, f"{args.src} and {target} are the same file")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with (
            opened(target, flags, stat.S_IMODE(status.st_mode) & 0o777) as dst,
            _progress.bar(args.progress, os.path.basename(args.src), regular_size(src)) as progress,
        ):
            copy(src, dst, progress=progress)


def send(args: argparse.Namespace) -> None:
    """A file to whoever listens there."""
    from ._copy import copy, discard

    with opened(args.file, os.O_RDONLY) as src, _address.connect(args.to) as sock:
        with _progress.bar(args.progress, args.file, regular_size(src)) as progress:
            copy(src, sock, progress=progress)
        sock.shutdown(socket.SHUT_WR)
        # The peer closes when it has read everything: only then is it known to have arrived.
        discard(sock)


def recv(args: argparse.Namespace) -> None:
    """One connection into a file."""
    from ._copy import copy

    with _address.listen(args.port) as listener:
        announce(listener)
        sock, _ = listener.accept()
    with (
        sock,
        opened(args.file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as dst,
        _progress.bar(args.progress, args.file, None) as progress,
    ):
        copy(sock, dst, progress=progress)


def connect(args: argparse.Namespace) -> None:
    """Standard input and output to a connection."""
    from ._relay import run_relay

    with _address.connect(args.to) as sock:
        # A person at a terminal is done when the other side is.
        result = run_relay(
            (STDIN, STDOUT),
            sock,
            idle_timeout=args.idle_timeout,
            stop_when_gone=2,
            stop_at_eof=2 if os.isatty(STDIN) else 0,
        )
    if result.reason == "reset by b":
        raise ConnectionResetError(errno.ECONNRESET, f"{args.to}: the peer reset the connection")
    if result.reason == "idle":
        raise TimeoutError(errno.ETIMEDOUT, f"{args.to}: nothing came for {args.idle_timeout:g} s")
    if _has_no_reader(STDOUT):
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def _has_no_reader(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def proxy(args: argparse.Namespace) -> None:
    """Many connections to one upstream."""
    import json
    import logging
    import time

    from ._proxy import ThreadedProxy

    logging.basicConfig(format="spliceio: proxy: %(message)s", level=logging.WARNING)
    with _address.listen(args.listen) as listener:
        running = ThreadedProxy(
            listener, args.upstream, method=args.method, idle_timeout=args.idle_timeout
        )
        caught: list[int] = []

        def stop(number: int, _frame: object) -> None:
            caught.append(number)
            running.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        announce(listener)
        begun = time.process_time()
        running.serve_forever()
        used = time.process_time() - begun
    if args.listen.path:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(args.listen.path)
    if args.stats:
        counted = {
            "connections": running.connections,
            "a_to_b": running.a_to_b,
            "b_to_a": running.b_to_a,
            "cpu_seconds": round(used, 6),
            "methods": dict(running.methods),
        }
        print(json.dumps(counted), flush=True)
    if signal.SIGINT in caught:
        raise KeyboardInterrupt


def explain(args: argparse.Namespace) -> None:
    """Which way bytes would go, and why."""
    from ._plan import explain as explained

    with contextlib.ExitStack() as stack:
        src = stack.enter_context(_end(args.src, os.O_RDONLY))
        dst = stack.enter_context(_end(args.dst, os.O_WRONLY))
        print(explained(src, dst))


@contextlib.contextmanager
def _end(name: str, flags: int) -> Iterator[int]:
    """Open what `explain` is asked about; a file that does not exist yet is made nameless."""
    if name in ("tcp", "unix", "pipe"):
        with _example(name, flags) as fd:
            yield fd
        return
    if flags & os.O_ACCMODE != os.O_RDONLY and not os.path.exists(name) and name != "-":
        name, flags = os.path.dirname(name) or ".", flags | os.O_TMPFILE
    with opened(name, flags | os.O_NONBLOCK * (name != "-")) as fd:
        yield fd


@contextlib.contextmanager
def _example(kind: str, flags: int) -> Iterator[int]:
    """A connected descriptor of a kind, to look at."""
    if kind == "pipe":
        reader, writer = os.pipe()
        try:
            yield reader if flags & os.O_ACCMODE == os.O_RDONLY else writer
        finally:
            os.close(reader)
            os.close(writer)
    elif kind == "unix":
        one, two = socket.socketpair()
        with one, two:
            yield one.fileno()
    else:
        with (
            socket.create_server(("127.0.0.1", 0)) as listener,
            socket.create_connection(listener.getsockname()) as sock,
        ):
            yield sock.fileno()


def features(args: argparse.Namespace) -> None:
    """What this kernel and sandbox do."""
    from ._features import features as probed

    print(probed())


def announce(listener: socket.socket) -> None:
    """Say where it listens, once it does."""
    print(f"listening on {_address.shown(listener)}", file=sys.stderr, flush=True)


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    top = argparse.ArgumentParser(
        prog="spliceio",
        description="Move bytes between files, pipes and sockets inside the Linux kernel.",
        epilog="Addresses are host:port, [v6]:port, :port or unix:/path. Sizes take K, M, G or T.",
    )
    top.add_argument("--version", action="version", version=f"spliceio {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    def command(
        run: object, name: str, text: str, *, progress: bool = False
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        sub.set_defaults(run=run, name=name)
        if progress:
            sub.add_argument("--progress", action="store_true", help="draw a bar (needs rich)")
        return sub

    sub = command(pipe, "pipe", "standard input to standard output", progress=True)
    sub.add_argument("-s", "--size", type=size, metavar="SIZE", help="stop after so many bytes")
    sub = command(cp, "cp", "copy one file to another", progress=True)
    sub.add_argument("src", metavar="SRC")
    sub.add_argument("dst", metavar="DST")
    sub = command(send, "send", "connect and send a file", progress=True)
    sub.add_argument("file", metavar="FILE", help="- is standard input")
    sub.add_argument("to", type=address, metavar="HOST:PORT")
    sub = command(recv, "recv", "accept one connection and write a file", progress=True)
    sub.add_argument("port", type=address, metavar="PORT", help="or an address")
    sub.add_argument("file", metavar="FILE", help="- is standard output")
    sub = command(connect, "connect", "standard input and output to a connection")
    sub.add_argument("to", type=address, metavar="HOST:PORT")
    sub.add_argument("--idle-timeout", type=float, metavar="SECONDS")
    sub = command(proxy, "proxy", "relay every connection to another address")
    sub.add_argument("listen", type=address, metavar="LISTEN")
    sub.add_argument("upstream", type=address, metavar="UPSTREAM")
    sub.add_argument("--idle-timeout", type=float, metavar="SECONDS")
    sub.add_argument("--method", choices=("auto", "read_write"), default="auto")
    sub.add_argument("--stats", action="store_true", help="print counts as JSON at the end")
    sub = command(explain, "explain", "say how bytes would go from one to the other")
    sub.add_argument("src", metavar="SRC", help="a path, -, tcp, unix or pipe")
    sub.add_argument("dst", metavar="DST", help="a path, -, tcp, unix or pipe")
    command(features, "features", "probe what this kernel and sandbox do")
    return top


def told(error: OSError) -> str:
    """Put an exception into the words of a Unix tool."""
    text = error.strerror or str(error)
    return f"{os.fsdecode(error.filename)}: {text}" if error.filename is not None else text


def silenced() -> int:
    """Let the interpreter's last flush go nowhere; return the status for a broken pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)
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
