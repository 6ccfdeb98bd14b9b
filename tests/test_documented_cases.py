"""Each row of the documentation's tables, made to happen on this kernel.

The tables of docs/_data are read, and the case that a row names is triggered through the library:
a row without a trigger, a trigger without a row, or another errno than the page says, fails.
"""

import contextlib
import errno
import fcntl
import os
import platform
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import spliceio

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DATA = Path(__file__).parent.parent / "docs" / "_data"
NONBLOCK = spliceio.SPLICE_F_NONBLOCK
REFUSALS = {}
SITUATIONS = {}
NUMBERS = {
    "x86_64": {"splice": 275, "tee": 276, "vmsplice": 278, "sendfile": 40},
    "aarch64": {"splice": 76, "tee": 77, "vmsplice": 75, "sendfile": 71},
}


def rows(name):
    with (DATA / name).open("rb") as file:
        return [row for row in tomllib.load(file)["row"] if row["case"]]


def refusal(function):
    REFUSALS[function.__name__] = function
    return function


def situation(function):
    SITUATIONS[function.__name__] = function
    return function


def nonblocking(*fds):
    for fd in fds:
        os.set_blocking(fd, False)


class Env:
    """Descriptors for one case, closed at its end."""

    def __init__(self, stack, folder):
        self.stack, self.dir, self.files = stack, str(folder), 0

    def keep(self, fd):
        self.stack.callback(self.close, fd)
        return fd

    def close(self, fd):
        with contextlib.suppress(OSError):
            os.close(fd)

    def pipe(self, data=b""):
        reader, writer = map(self.keep, os.pipe())
        if data:
            os.write(writer, data)
        return reader, writer

    def full(self):
        reader, writer = self.pipe()
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, bytes(65536))
        os.set_blocking(writer, True)
        return reader, writer

    def file(self, flags=os.O_RDWR):
        self.files += 1
        path = os.path.join(self.dir, f"file{self.files}")
        with open(path, "wb") as file:
            file.write(b"x" * 5000)
        return self.open(path, flags)

    def open(self, path, flags=os.O_RDONLY):
        return self.keep(os.open(path, flags))

    def eventfd(self):
        poller = select.epoll()
        self.stack.callback(poller.close)
        return poller.fileno()

    def unix(self):
        return tuple(map(self.stack.enter_context, socket.socketpair()))

    def tcp(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            near = self.stack.enter_context(socket.create_connection(listener.getsockname()))
            far = self.stack.enter_context(listener.accept()[0])
        return near, far

    def stuff(self, sock):
        sent = 0
        for piece in (bytes(65536), b"x"):
            with contextlib.suppress(BlockingIOError):
                while True:
                    sent += sock.send(piece)
        return sent

    def full_tcp(self):
        """A blocking socket whose own buffer and whose peer's are full."""
        near, _ = self.tcp()
        near.setblocking(False)
        poll = select.poll()
        poll.register(near, select.POLLOUT)
        # POLLOUT wants a third of the buffer free, so its absence alone does not say "full".
        while poll.poll(100) or self.stuff(near):
            self.stuff(near)
        near.setblocking(True)
        return near

    def sock(self, *kind):
        return self.stack.enter_context(socket.socket(*kind))

    def closed(self):
        reader, writer = os.pipe()
        unused = fcntl.fcntl(reader, fcntl.F_DUPFD, 500)  # not given out again at once
        for fd in (reader, writer, unused):
            os.close(fd)
        return unused

    def sealed(self):
        fd = self.keep(os.memfd_create("sealed", os.MFD_ALLOW_SEALING))
        os.write(fd, b"abc")
        os.lseek(fd, 0, os.SEEK_SET)
        fcntl.fcntl(fd, 1033, 8)  # F_ADD_SEALS, F_SEAL_WRITE
        return fd

    def reset(self):
        near, far = self.tcp()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        far.close()
        select.select([near], [], [], 5)
        return near

    def limit(self, size):
        old = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        self.stack.callback(signal.signal, signal.SIGXFSZ, handler)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
        self.stack.callback(resource.setrlimit, resource.RLIMIT_FSIZE, old)

    def full_tmpfs(self):
        """A new empty file on a filesystem without a free block; needs root."""
        mount = os.path.join(self.dir, "mount")
        os.mkdir(mount)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", mount], check=True)
        self.stack.callback(subprocess.run, ["umount", "-l", mount], check=True)
        with contextlib.suppress(OSError), open(os.path.join(mount, "fill"), "wb", 0) as file:
            while True:
                file.write(bytes(4096))
        return self.open(os.path.join(mount, "new"), os.O_RDWR | os.O_CREAT)


@refusal
def splice_empty_pipe(api, env):
    return api.splice(env.pipe()[0], env.pipe()[1], 10, flags=NONBLOCK)


@refusal
def splice_full_pipe(api, env):
    return api.splice(env.file(), env.full()[1], 10, flags=NONBLOCK)


@refusal
def splice_full_pipe_o_nonblock(api, env):
    w = env.full()[1]
    os.set_blocking(w, False)
    return api.splice(env.file(), w, 10)


@refusal
def splice_empty_socket(api, env):
    a, _b = env.tcp()
    a.setblocking(False)
    return api.splice(a.fileno(), env.pipe()[1], 10)


@refusal
def splice_full_socket(api, env):
    a, _b = env.tcp()
    a.setblocking(False)
    env.stuff(a)
    return api.splice(env.pipe(b"abc")[0], a.fileno(), 3)


@refusal
def splice_socket_timeout(api, env):
    a, _b = env.tcp()
    a.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 20000))
    return api.splice(a.fileno(), env.pipe()[1], 10)


@refusal
def splice_closed_fd(api, env):
    return api.splice(env.closed(), env.pipe()[1], 10)


@refusal
def splice_wrong_pipe_end(api, env):
    return api.splice(env.pipe()[1], env.pipe()[1], 10)


@refusal
def splice_dst_not_writable(api, env):
    return api.splice(env.pipe(b"x")[0], env.file(flags=os.O_RDONLY), 10)


@refusal
def splice_src_not_readable(api, env):
    return api.splice(env.file(flags=os.O_WRONLY), env.pipe()[1], 10)


@refusal
def splice_o_path(api, env):
    return api.splice(env.file(flags=os.O_PATH), env.pipe()[1], 10)


@refusal
def splice_neither_pipe(api, env):
    return api.splice(env.file(), env.file(), 10)


@refusal
def splice_same_pipe(api, env):
    r, w = env.pipe(b"abc")
    return api.splice(r, w, 3)


@refusal
def splice_same_fifo(api, env):
    p = env.dir + "/fifo"
    os.mkfifo(p)
    a = env.open(p, os.O_RDWR)
    b = env.open(p, os.O_RDWR)
    os.write(a, b"abc")
    return api.splice(a, b, 3)


@refusal
def splice_append_target(api, env):
    return api.splice(env.pipe(b"abc")[0], env.file(flags=os.O_WRONLY | os.O_APPEND), 3)


@refusal
def splice_append_target_with_offset(api, env):
    return api.splice(
        env.pipe(b"abc")[0], env.file(flags=os.O_WRONLY | os.O_APPEND), 3, offset_dst=0
    )


@refusal
def splice_offset_on_socket(api, env):
    a, b = env.unix()
    b.send(b"abc")
    return api.splice(a.fileno(), env.pipe()[1], 3, offset_src=0)


@refusal
def splice_negative_offset(api, env):
    return api.splice(env.file(), env.pipe()[1], 3, offset_src=-1)


@refusal
def splice_unknown_flag(api, env):
    return api.splice(env.pipe(b"abc")[0], env.pipe()[1], 3, flags=0x100)


@refusal
def splice_directory(api, env):
    return api.splice(env.open(env.dir, os.O_RDONLY), env.pipe()[1], 3)


@refusal
def splice_event_fd(api, env):
    return api.splice(env.eventfd(), env.pipe()[1], 8)


@refusal
def splice_proc_self(api, env):
    return api.splice(env.open("/proc/self/status"), env.pipe()[1], 8)


@refusal
def splice_dev_null_source(api, env):
    return api.splice(env.open("/dev/null"), env.pipe()[1], 8)


@refusal
def splice_dev_full_target(api, env):
    return api.splice(env.pipe(b"abc")[0], env.open("/dev/full", os.O_WRONLY), 3)


@refusal
def splice_unaligned_o_direct(api, env):
    return api.splice(env.pipe(b"abc")[0], env.file(flags=os.O_WRONLY | os.O_DIRECT), 3)


@refusal
def splice_offset_on_pipe(api, env):
    return api.splice(env.pipe(b"abc")[0], env.file(), 3, offset_src=0)


@refusal
def splice_sealed_target(api, env):
    return api.splice(env.pipe(b"abc")[0], env.sealed(), 3)


@refusal
def splice_no_reader(api, env):
    r, w = env.pipe()
    os.close(r)
    return api.splice(env.file(), w, 3)


@refusal
def splice_peer_gone(api, env):
    a, b = env.unix()
    b.close()
    return api.splice(env.pipe(b"abc")[0], a.fileno(), 3)


@refusal
def splice_unconnected_target(api, env):
    return api.splice(env.pipe(b"abc")[0], env.sock().fileno(), 3)


@refusal
def splice_unconnected_source(api, env):
    return api.splice(env.sock().fileno(), env.pipe()[1], 3)


@refusal
def splice_listening_source(api, env):
    listener = env.sock()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return api.splice(listener.fileno(), env.pipe()[1], 3)


@refusal
def splice_reset_source(api, env):
    return api.splice(env.reset().fileno(), env.pipe()[1], 3)


@refusal
def splice_reset_target(api, env):
    return api.splice(env.pipe(b"abc")[0], env.reset().fileno(), 3)


@refusal
def splice_file_size_limit(api, env):
    fd = env.file()
    r = env.pipe(b"abc")[0]
    env.limit(1000)
    return api.splice(r, fd, 3, offset_dst=1000)


@refusal
def splice_full_filesystem(api, env):
    return api.splice(env.pipe(b"abc")[0], env.full_tmpfs(), 3)


@refusal
def splice_datagram_too_big(api, env):
    u = env.sock(socket.AF_INET, socket.SOCK_DGRAM)
    v = env.sock(socket.AF_INET, socket.SOCK_DGRAM)
    v.bind(("127.0.0.1", 0))
    u.connect(v.getsockname())
    r, w = env.pipe()
    fcntl.fcntl(w, 1031, 1 << 18)
    os.write(w, bytes(100000))
    return api.splice(r, u.fileno(), 100000)


@refusal
def tee_empty_pipe(api, env):
    return api.tee(env.pipe()[0], env.pipe()[1], 3, NONBLOCK)


@refusal
def tee_full_pipe(api, env):
    return api.tee(env.pipe(b"abc")[0], env.full()[1], 3, NONBLOCK)


@refusal
def tee_empty_pipe_o_nonblock(api, env):
    r = env.pipe()[0]
    os.set_blocking(r, False)
    return api.tee(r, env.pipe()[1], 3)


@refusal
def tee_closed_fd(api, env):
    return api.tee(env.closed(), env.pipe()[1], 3)


@refusal
def tee_wrong_pipe_end(api, env):
    return api.tee(env.pipe()[1], env.pipe()[1], 3)


@refusal
def tee_src_not_pipe(api, env):
    return api.tee(env.file(), env.pipe()[1], 3)


@refusal
def tee_dst_not_pipe(api, env):
    return api.tee(env.pipe(b"abc")[0], env.file(), 3)


@refusal
def tee_same_pipe(api, env):
    r, w = env.pipe(b"abc")
    return api.tee(r, w, 3)


@refusal
def tee_unknown_flag(api, env):
    return api.tee(env.pipe(b"abc")[0], env.pipe()[1], 3, 0x100)


@refusal
def tee_no_reader(api, env):
    r, w = env.pipe()
    os.close(r)
    return api.tee(env.pipe(b"abc")[0], w, 3)


@refusal
def vmsplice_full_pipe(api, env):
    return api.vmsplice(env.full()[1], b"abc", NONBLOCK)


@refusal
def vmsplice_empty_pipe(api, env):
    return api.vmsplice(env.pipe()[0], bytearray(3), NONBLOCK)


@refusal
def vmsplice_closed_fd(api, env):
    return api.vmsplice(env.closed(), b"abc")


@refusal
def vmsplice_not_pipe(api, env):
    return api.vmsplice(env.file(), b"abc")


@refusal
def vmsplice_socket(api, env):
    return api.vmsplice(env.unix()[0].fileno(), b"abc")


@refusal
def vmsplice_too_many_buffers(api, env):
    return api.vmsplice(env.pipe()[1], [b"a"] * 1025)


@refusal
def vmsplice_unknown_flag(api, env):
    return api.vmsplice(env.pipe()[1], b"abc", 0x100)


@refusal
def vmsplice_no_reader(api, env):
    r, w = env.pipe()
    os.close(r)
    return api.vmsplice(w, b"abc")


@refusal
def sendfile_full_socket(api, env):
    a, _b = env.tcp()
    a.setblocking(False)
    env.stuff(a)
    return api.sendfile(a.fileno(), env.file(), 0, 10)


@refusal
def sendfile_full_pipe(api, env):
    w = env.full()[1]
    os.set_blocking(w, False)
    return api.sendfile(w, env.file(), 0, 10)


@refusal
def sendfile_closed_fd(api, env):
    return api.sendfile(env.unix()[0].fileno(), env.closed(), 0, 10)


@refusal
def sendfile_src_not_readable(api, env):
    return api.sendfile(env.unix()[0].fileno(), env.file(flags=os.O_WRONLY), 0, 10)


@refusal
def sendfile_dst_not_writable(api, env):
    return api.sendfile(env.file(flags=os.O_RDONLY), env.file(), 0, 10)


@refusal
def sendfile_o_path(api, env):
    return api.sendfile(env.unix()[0].fileno(), env.file(flags=os.O_PATH), 0, 10)


@refusal
def sendfile_source_pipe(api, env):
    return api.sendfile(env.unix()[0].fileno(), env.pipe(b"abc")[0], None, 3)


@refusal
def sendfile_source_socket(api, env):
    a, b = env.unix()
    b.send(b"abc")
    return api.sendfile(env.file(), a.fileno(), None, 3)


@refusal
def sendfile_source_dev_null(api, env):
    return api.sendfile(env.unix()[0].fileno(), env.open("/dev/null"), None, 3)


@refusal
def sendfile_source_tty(api, env):
    m, t = os.openpty()
    env.stack.callback(os.close, m)
    env.stack.callback(os.close, t)
    return api.sendfile(env.unix()[0].fileno(), t, None, 3)


@refusal
def sendfile_source_directory(api, env):
    return api.sendfile(env.unix()[0].fileno(), env.open(env.dir), None, 3)


@refusal
def sendfile_source_proc_self(api, env):
    return api.sendfile(env.unix()[0].fileno(), env.open("/proc/self/status"), None, 3)


@refusal
def sendfile_append_target(api, env):
    return api.sendfile(env.file(flags=os.O_WRONLY | os.O_APPEND), env.file(), None, 3)


@refusal
def sendfile_negative_offset(api, env):
    return api.sendfile(env.unix()[0].fileno(), env.file(), -1, 3)


@refusal
def sendfile_unaligned_o_direct(api, env):
    return api.sendfile(env.unix()[0].fileno(), env.file(flags=os.O_RDONLY | os.O_DIRECT), 1, 3)


@refusal
def sendfile_target_unaligned_o_direct(api, env):
    return api.sendfile(env.file(flags=os.O_WRONLY | os.O_DIRECT), env.file(), 0, 3)


@refusal
def sendfile_offset_on_pipe(api, env):
    return api.sendfile(env.unix()[0].fileno(), env.pipe(b"abc")[0], 0, 3)


@refusal
def sendfile_offset_on_socket(api, env):
    return api.sendfile(env.unix()[0].fileno(), env.unix()[0].fileno(), 0, 3)


@refusal
def sendfile_sealed_target(api, env):
    return api.sendfile(env.sealed(), env.file(), 0, 3)


@refusal
def sendfile_peer_gone(api, env):
    a, b = env.unix()
    b.close()
    return api.sendfile(a.fileno(), env.file(), 0, 3)


@refusal
def sendfile_no_reader(api, env):
    r, w = env.pipe()
    os.close(r)
    return api.sendfile(w, env.file(), 0, 3)


@refusal
def sendfile_unconnected_target(api, env):
    return api.sendfile(env.sock().fileno(), env.file(), 0, 3)


@refusal
def sendfile_reset_target(api, env):
    return api.sendfile(env.reset().fileno(), env.file(), 0, 3)


@refusal
def sendfile_file_size_limit(api, env):
    a = env.file()
    b = env.file()
    os.lseek(a, 1000, 0)
    env.limit(1000)
    return api.sendfile(a, b, 0, 3)


@refusal
def sendfile_full_filesystem(api, env):
    return api.sendfile(env.full_tmpfs(), env.file(), 0, 3)


@refusal
def sendfile_dev_full_target(api, env):
    return api.sendfile(env.open("/dev/full", os.O_WRONLY), env.file(), 0, 3)


@situation
def splice_file_full_pipe_flag(api, env):
    return api.splice(env.file(), env.full()[1], 3, flags=NONBLOCK)


@situation
def splice_file_full_pipe_dst(api, env):
    w = env.full()[1]
    nonblocking(w)
    return api.splice(env.file(), w, 3)


@situation
def splice_file_full_pipe_src(api, env):
    f = env.file()
    r, w = env.full()
    nonblocking(f, r)
    return api.splice(f, w, 3)


@situation
def splice_empty_pipe_file_reader(api, env):
    r, _w = env.pipe()
    nonblocking(r)
    return api.splice(r, env.file(), 3)


@situation
def splice_empty_pipe_file_writer(api, env):
    r, w = env.pipe()
    nonblocking(w)
    return api.splice(r, env.file(), 3)


@situation
def splice_pipe_pipe_src(api, env):
    r, _w = env.pipe()
    nonblocking(r)
    return api.splice(r, env.pipe()[1], 3)


@situation
def splice_pipe_pipe_dst(api, env):
    r, _w = env.pipe()
    d = env.pipe()[1]
    nonblocking(d)
    return api.splice(r, d, 3)


@situation
def splice_blocking_tcp_pipe_flag(api, env):
    return api.splice(env.tcp()[0].fileno(), env.pipe()[1], 3, flags=NONBLOCK)


@situation
def splice_blocking_unix_pipe_flag(api, env):
    return api.splice(env.unix()[0].fileno(), env.pipe()[1], 3, flags=NONBLOCK)


@situation
def splice_pipe_full_tcp_flag(api, env):
    return api.splice(env.pipe(b"abc")[0], env.full_tcp().fileno(), 3, flags=NONBLOCK)


@situation
def splice_tcp_o_nonblock(api, env):
    a = env.tcp()[0]
    a.setblocking(False)
    return api.splice(a.fileno(), env.pipe()[1], 3)


@situation
def splice_rcvtimeo(api, env):
    a = env.tcp()[0]
    a.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 50000))
    return api.splice(a.fileno(), env.pipe()[1], 3)


@situation
def tee_flag(api, env):
    return api.tee(env.pipe()[0], env.pipe()[1], 3, NONBLOCK)


@situation
def tee_src(api, env):
    r = env.pipe()[0]
    nonblocking(r)
    return api.tee(r, env.pipe()[1], 3)


@situation
def tee_dst(api, env):
    d = env.pipe()[1]
    nonblocking(d)
    return api.tee(env.pipe()[0], d, 3)


@situation
def tee_blocking(api, env):
    return api.tee(env.pipe()[0], env.pipe()[1], 3)


@situation
def vmsplice_full_flag(api, env):
    return api.vmsplice(env.full()[1], b"abc", NONBLOCK)


@situation
def vmsplice_full_o_nonblock(api, env):
    w = env.full()[1]
    nonblocking(w)
    return api.vmsplice(w, b"abc")


@situation
def vmsplice_empty_flag(api, env):
    return api.vmsplice(env.pipe()[0], bytearray(3), NONBLOCK)


@situation
def vmsplice_empty_o_nonblock(api, env):
    r = env.pipe()[0]
    nonblocking(r)
    return api.vmsplice(r, bytearray(3))


@situation
def sendfile_tcp_o_nonblock(api, env):
    a = env.full_tcp()
    a.setblocking(False)
    return api.sendfile(a.fileno(), env.file(), 0, 3)


@situation
def sendfile_tcp_blocking(api, env):
    return api.sendfile(env.full_tcp().fileno(), env.file(), 0, 3)


@situation
def sendfile_pipe_o_nonblock(api, env):
    w = env.full()[1]
    nonblocking(w)
    return api.sendfile(w, env.file(), 0, 3)


@situation
def sendfile_pipe_src_o_nonblock(api, env):
    w = env.full()[1]
    f = env.file()
    nonblocking(f)
    return api.sendfile(w, f, 0, 3)


@situation
def sendfile_sndtimeo(api, env):
    a = env.full_tcp()
    a.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 50000))
    return api.sendfile(a.fileno(), env.file(), 0, 3)


@pytest.mark.parametrize("row", rows("errnos.toml"), ids=lambda row: row["case"])
def test_a_documented_errno_is_what_the_kernel_says(row, tmp_path):
    """The call fails with the errno of its row, and the message names the call."""
    assert row["case"].startswith(row["call"])
    if row["case"].endswith("full_filesystem") and os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    named = pytest.raises(OSError, match=row["call"] + ": ")
    with contextlib.ExitStack() as stack, named as caught:
        REFUSALS[row["case"]](spliceio, Env(stack, tmp_path))
    assert errno.errorcode[caught.value.errno] == row["errno"]


def observed(run, call):
    """What a call does in a child: "blocks" once the kernel shows it asleep in that call."""
    number = NUMBERS[platform.machine()][call]
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            run(tell)
        finally:
            os._exit(1)
    os.close(tell)
    try:
        assert os.read(told, 1) == b"!"  # made its descriptors, goes into the call now
        while True:
            ready, _, _ = select.select([told], [], [], 0.01)
            if ready:
                return os.read(told, 1000).decode()
            fields = Path(f"/proc/{child}/syscall").read_text().split()
            if fields[0] == str(number):
                return "blocks"
    finally:
        os.close(told)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


class Announcing:
    """The library, saying so just before each call."""

    def __init__(self, tell):
        self.tell = tell

    def __getattr__(self, name):
        call = getattr(spliceio, name)

        def announced(*args, **options):
            os.write(self.tell, b"!")
            return call(*args, **options)

        return announced


@pytest.mark.parametrize("row", rows("blocking.toml"), ids=lambda row: row["case"])
def test_a_documented_call_blocks_or_does_not(row, tmp_path):
    """The call sleeps in the kernel, or says EAGAIN, as its row says."""

    def run(tell):
        with contextlib.ExitStack() as stack:
            try:
                SITUATIONS[row["case"]](Announcing(tell), Env(stack, tmp_path))
            except BlockingIOError:
                os.write(tell, b"EAGAIN")
            except BaseException as error:
                os.write(tell, repr(error).encode())

    seen = observed(run, row["call"])
    if row["result"] == "EAGAIN after that time":
        assert seen in ("blocks", "EAGAIN")  # it sleeps first; the errno is a row of errnos.toml
    else:
        assert seen == row["result"]


def test_every_trigger_has_its_row():
    """No case is triggered that no page tells of, and none is told that nothing triggers."""
    assert {row["case"] for row in rows("errnos.toml")} == set(REFUSALS)
    assert {row["case"] for row in rows("blocking.toml")} == set(SITUATIONS)
