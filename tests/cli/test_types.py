"""Wrong words on the command line: which option, what is wrong with it, what to write instead.

The status is 2 for every command, nothing is on standard output, and nothing was begun.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys

import pytest

from spliceio._cli import proxy as _proxy_command
from spliceio._cli.parser import parser
from spliceio._proxy import address as _address
from tests.support.commands import (
    COMMANDS,
    HANG,
    SPLICEIO,
    listening,
    run,
    run_program,
    said,
    started,
)
from tests.support.programs import need
from tests.support.states import process_state, until

ALL = (*COMMANDS, "tee")
NO_TIME = ("-1", "nan", "inf", "soon", "", "1e7", "1_0", "\uff11")

URLS = {
    "http://host:80": "host:80",
    "http://host": "host:80",
    "https://host/path": "host:443",
    "HTTP://host/": "host:80",
    "wss://u:p@host:9/x?y#z": "host:9",
    "http://[::1]:80/": "[::1]:80",
    "tcp://10.0.0.1:5432": "10.0.0.1:5432",
    "tcp://10.0.0.1": "10.0.0.1:port",
    "http://::1/": "host:port",
    "http:///": "host:port",
}

# Every place of the command line that takes an address: the words before it, how it is called,
# those after it, and whether somebody is to listen there already.
PLACES = {
    "send": (["send", "f"], "HOST:PORT", [], True),
    "connect": (["connect"], "HOST:PORT", [], True),
    "recv": (["recv"], "PORT", ["f"], False),
    "proxy-listen": (["proxy"], "LISTEN", [":1"], False),
    "proxy-upstream": (["proxy", ":0"], "UPSTREAM", [], True),
    "proxy-also": (["proxy", ":0", ":1", "--listen"], "--listen", [], False),
    "proxy-metrics": (["proxy", ":0", ":1", "--metrics"], "--metrics", [], False),
    "serve": (["serve", ".", "--bind"], "--bind", [], False),
}

TIMES = {
    "connect": (["connect", ":1"], "--idle-timeout", False),
    "proxy-idle": (["proxy", ":0", ":1"], "--idle-timeout", False),
    "proxy-connect": (["proxy", ":0", ":1"], "--connect-timeout", False),
    "proxy-drain": (["proxy", ":0", ":1"], "--drain", True),
    "serve": (["serve", "."], "--timeout", False),
    "tee": (["tee"], "--stall-timeout", False),
    "trace": (["trace", "-p", "1"], "--seconds", False),
}


def refused(*args, cwd) -> str:
    """Run a command with wrong words; return the last line, without who says it."""
    done = run(*args, cwd=cwd)
    assert (done.returncode, done.stdout) == (2, b"")
    usage, *_, last = done.stderr.decode().splitlines()
    assert usage.startswith("usage: spliceio")
    found = re.fullmatch(r"spliceio( \w+)?: error: (.+)", last)
    assert found, last
    assert os.listdir(cwd) == []
    return found[2]


# -- addresses -------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("host:70000", "port 70000 is out of range; a port is a number from 0 to 65535"),
        (":65536", "port 65536 is out of range; a port is a number from 0 to 65535"),
        ("70000", "port 70000 is out of range; a port is a number from 0 to 65535"),
        ("[::1]:99999", "port 99999 is out of range; a port is a number from 0 to 65535"),
        ("host:-1", "port -1 is out of range; a port is a number from 0 to 65535"),
        ("http://host:80", "is a URL, and no address; write host:80"),
        ("host", "is no address; write host:port, [v6]:port, :port or unix:/path"),
        ("host:http", "is no address; write host:port, [v6]:port, :port or unix:/path"),
        ("::1:80", "put an IPv6 address in brackets, as in [::1]:8080"),
    ],
)
def test_an_address_that_is_none(place, text, reason, tmp_path):
    """Wherever it stands, the same reason, after the word for the place."""
    before, name, after, _ = PLACES[place]
    told = refused(*before, text, *after, cwd=tmp_path)
    assert told.startswith(f"argument {name}: {text!r}")
    assert told.endswith(reason)


@pytest.mark.parametrize("place", [name for name, place in PLACES.items() if place[3]])
@pytest.mark.parametrize("text", [":0", "host:0", "[::1]:00", "0"])
def test_nobody_listens_on_port_0(place, text, tmp_path):
    """To listen it means any port, to connect it means nothing."""
    before, name, after, _ = PLACES[place]
    told = refused(*before, text, *after, cwd=tmp_path)
    reason = "nobody listens on port 0; write a port from 1 to 65535"
    assert told == f"argument {name}: {text!r}: {reason}"


@pytest.mark.parametrize("place", ["serve", "proxy-listen", "proxy-also", "proxy-metrics"])
def test_a_port_alone_does_not_say_who_may_come(place, tmp_path):
    """It would be everybody; only where PORT is what is asked for is that what it says."""
    before, name, after, _ = PLACES[place]
    told = refused(*before, "8000", *after, cwd=tmp_path)
    assert told == (
        f"argument {name}: '8000' is a port alone; write 127.0.0.1:8000 for this machine only, or "
        ":8000 for every address of it"
    )


@pytest.mark.parametrize(("url", "address"), URLS.items())
def test_what_to_write_instead_of_a_url(url, address):
    """The address in it, with the port that its scheme has; it is one, if it is known at all."""
    with pytest.raises(ValueError, match="is a URL, and no address") as caught:
        _address.parse(url)
    assert str(caught.value).endswith(f"; write {address}")
    if "port" not in address:
        assert str(_address.parse(address)) == address


@pytest.mark.parametrize("port", [70000, -1, 2**70])
def test_a_pair_whose_port_is_out_of_range(port):
    """The library says it in the same words."""
    with pytest.raises(ValueError, match=f"port {port} is out of range"):
        _address.of(("host", port))


# -- options ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", TIMES)
@pytest.mark.parametrize("text", [*NO_TIME, "0"])
def test_a_number_of_seconds_that_is_none(place, text, tmp_path):
    """All options that take seconds take the same ones, and say whether 0 is among them."""
    before, name, may_be_none = TIMES[place]
    if may_be_none and text == "0":
        text = "-0.1"
    above = "" if may_be_none else " above 0"
    example = "0, 30 or 0.5" if may_be_none else "30 or 0.5"
    told = refused(*before, f"{name}={text}", cwd=tmp_path)
    reason = f"is no number of seconds{above}; write {example}, at most 1000000"
    assert told == f"argument {name}: {text!r} {reason}"


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["pipe", "-s", "many"], "argument -s/--size: 'many' is no size; write 4096, 64K, 10M"),
        (["tee", "--hash", "crc"], "argument --hash: 'crc' is no hash known here; write "),
        (["tee", "--on-slow=x"], "argument --on-slow: invalid choice: 'x' (choose from "),
        (["tee", "--output-error=x"], "argument --output-error: invalid choice: 'x' (choose"),
        (["cp", "a", "b", "--reflink=x"], "argument --reflink: invalid choice: 'x' (choose from "),
        (["cp", "a", "b", "--sparse=x"], "argument --sparse: invalid choice: 'x' (choose from "),
        (["proxy", ":0"], "give UPSTREAM, or --upstreams FILE"),
        (["proxy", ":0", ":1", "--upstreams", "f"], "give UPSTREAM, or --upstreams FILE"),
        (["proxy", ":0", ":1", "--threads=0"], "argument --threads: '0' is no number from 1 to "),
        (
            ["proxy", ":0", ":1", "--max-connections=x"],
            "argument --max-connections: 'x' is no number from 1 to ",
        ),
        (["proxy", ":0", ":1", "--method=x"], "argument --method: invalid choice: 'x' (choose "),
        (
            ["proxy", ":0", ":1", "--proxy-protocol=x"],
            "argument --proxy-protocol: 'x' is no version of the PROXY protocol; write 1 (text) or",
        ),
        (
            ["proxy", ":0", ":1", "--trust-proxy-protocol=x"],
            "argument --trust-proxy-protocol: 'x' does not appear to be an IPv4 or IPv6 network; "
            "write 10.0.0.0/8, ::1 or unix",
        ),
        (
            ["proxy", ":0", ":1", "--metrics", "unix:/x"],
            "argument --metrics: 'unix:/x': it takes host:port, and no unix socket",
        ),
        (["trace", "-p", "x"], "argument -p/--pid: 'x' is no PID; write 1234 or 1234,1235"),
        (["trace"], "give either -p PID or a command"),
        (["trace", "--seconds", "1", "--", "true"], "--seconds is for -p only"),
        (["nosuch"], "argument COMMAND: invalid choice: 'nosuch' (choose from "),
        ([], "the following arguments are required: COMMAND"),
        *(
            ([name, *args, "--bogus"], "unrecognized arguments: --bogus")
            for name, args in {
                "pipe": [],
                "tee": [],
                "cp": ["a", "b"],
                "send": ["f", ":1"],
                "recv": ["0", "f"],
                "connect": [":1"],
                "proxy": [":0", ":1"],
                "serve": ["."],
                "explain": ["a", "b"],
                "features": [],
            }.items()
        ),
    ],
    ids=str,
)
def test_what_is_wrong_is_named(args, told, tmp_path):
    """The option, the reason, the way out."""
    assert refused(*args, cwd=tmp_path).startswith(told)


# -- the file of upstreams -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "line", "reason"),
    [
        (b"h:1\n\xff\xfe:2\n", 2, r"b'\\xff\\xfe:2' is not UTF-8 \(byte 1 of it\)"),
        (b"h:1\r\n\r\nh\xe9te:2\r\n", 3, r"b'h\\xe9te:2' is not UTF-8 \(byte 2 of it\)"),
        (b"h:1\nh:\x0c2\n\nh:70000", 2, r"'h:\\x0c2' is no address; .*"),
        (b"h:1\n\nh:70000", 3, "'h:70000': port 70000 is out of range; .*"),
        (b"h:0", 1, "'h:0': nobody listens on port 0; .*"),
        (b"http://h", 1, "'http://h' is a URL, and no address; write h:80"),
    ],
)
def test_a_file_of_upstreams_that_is_wrong(data, line, reason, tmp_path):
    """The file, the line as an editor counts, and the reason; nobody listens."""
    (tmp_path / "up").write_bytes(data)
    done = run("proxy", "unix:sock", "--upstreams", "up", cwd=tmp_path)
    assert re.fullmatch(f"spliceio: proxy: up, line {line}: {reason}", said(done))
    assert done.returncode == 1
    assert not (tmp_path / "sock").exists()


def test_what_a_file_of_upstreams_may_have(tmp_path):
    """A byte order mark, and comments in any encoding."""
    (tmp_path / "up").write_bytes(b"\xef\xbb\xbfhost:1 # caf\xe9\r\n#\xff\nunix:/\xc3\xa9 #\n")
    args = _proxy_command.argparse.Namespace(upstreams=str(tmp_path / "up"))
    assert [str(one) for one in _proxy_command._upstreams(args)] == ["host:1", "unix:/\xe9"]


# -- what ends a command ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "status"),
    [
        *(([name, "--help"], 141) for name in ALL),
        (["--help"], 141),
        (["--version"], 141),
        (["features"], 141),
        (["explain", "tcp", "tcp"], 141),
        (["pipe"], 141),
        (["tee"], 141),
        (["cp", "-", "-"], 141),
        (["trace", "-p", "{pid}", "--seconds", "0.1"], 141),
    ],
    ids=str,
)
def test_nobody_reads_the_output(args, status, tmp_path):
    """As the death by SIGPIPE looks in a shell, and not a word."""
    if args[0] == "trace" and "-p" in args:
        need("strace")
    reader, writer = os.pipe()
    os.close(reader)
    with subprocess.Popen([need("sleep"), "600"]) as other:
        try:
            args = [arg.format(pid=other.pid) for arg in args]
            done = run_program(*args, input=b"text", stdout=writer, cwd=tmp_path)
        finally:
            os.close(writer)
            other.kill()
    if "-p" in args and b"ptrace" in done.stderr:
        pytest.skip("attaching with ptrace is refused here")
    told = re.sub(rb"tracing 1 process; Ctrl-C ends it\n", b"", done.stderr)
    assert (done.returncode, told) == (status, b"")


@pytest.mark.parametrize(
    "args", [["--help"], ["--version"], ["features"], ["cp", "--help"], ["explain", "tcp", "tcp"]]
)
def test_the_output_is_full(args):
    """What could not be printed is no success."""
    with open("/dev/full", "wb") as full:
        done = run_program(*args, stdout=full)
    assert said(done).endswith("standard output: No space left on device")
    assert done.returncode == 1


@pytest.mark.parametrize("command", ["tee", "serve", "trace"])
def test_ctrl_c_is_130_without_a_traceback(command, tmp_path):
    """Those that test_main.py has not."""
    with contextlib.ExitStack() as stack:
        if command == "tee":
            process = stack.enter_context(started("tee", tmp_path / "f"))
            process.stdin.write(b"x")
            assert process.stdout.read(1) == b"x"
        elif command == "serve":
            process = stack.enter_context(started("serve", tmp_path, "--bind", "127.0.0.1:0"))
            listening(process)
        else:
            need("strace")
            # Ctrl-C reaches the command by the terminal; the status is the command's.
            script = "trap 'exit 130' INT; echo x; while :; do read line; done"
            words = ["trace", "-o", tmp_path / "report", "--", "sh", "-c", script]
            process = stack.enter_context(started(*words, start_new_session=True))
            assert process.stdout.read(2) == b"x\n"
        until(lambda: process_state(process.pid) == "S")
        process.send_signal(signal.SIGINT)
        assert process.wait(HANG) == 130
        assert b"Traceback" not in process.stderr.read()


@pytest.mark.parametrize("redirection", ["<.", "1<."])
def test_a_directory_as_a_standard_stream(redirection, tmp_path):
    """The interpreter itself ends before anything of ours: status 1, and no file is touched."""
    (tmp_path / "f").write_bytes(b"old")
    script = f'"$@" {redirection}'
    done = subprocess.run(
        [need("sh"), "-c", script, "sh", *SPLICEIO, "tee", "f"],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=HANG,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert b"directory" in done.stderr
    assert (tmp_path / "f").read_bytes() == b"old"
    assert sys.implementation.name == "cpython"


@pytest.mark.parametrize(
    "words",
    [
        ["-v", ":1", ":2", ":3"],
        [":1", "-v", ":2", ":3"],
        [":1", ":2", "-v", ":3"],
        [":1", ":2", ":3", "-v"],
        [":1", "--listen", "unix:@x", "-v", ":2", "--drain", "3", ":3"],
    ],
)
def test_options_stand_anywhere(words):
    """Before, between and behind the places of a proxy."""
    args = parser().parse_args(["proxy", *words])
    assert (args.verbose, str(args.listen)) == (True, ":1")
    assert [one.port for one in args.upstream] == [2, 3]
