"""What a client may name: everything beneath the root, and nothing that is only reached from it."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spliceio._http import docroot
from spliceio._http.docroot import BadTarget, Docroot, target
from tests.support.states import Worker

SECRET = b"outside"


@pytest.fixture
def root(tmp_path):
    """A directory with a few files, beside it a secret."""
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "file").write_bytes(b"inside")
    (root / "sub" / "file").write_bytes(b"deeper")
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "away").mkdir()
    (tmp_path / "away" / "file").write_bytes(SECRET)
    (tmp_path / "root-too").mkdir()
    (tmp_path / "root-too" / "file").write_bytes(SECRET)
    return root


def refuse_openat2(monkeypatch, number):
    """Let openat2 be refused, as an old kernel or a sandbox does."""

    def refuse(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(docroot.owned, "open_within", refuse)


@pytest.fixture(params=[0, errno.ENOSYS], ids=["openat2", "no openat2"])
def tree(root, request, monkeypatch):
    """The root, opened; with the kernel's own limit, and without."""
    if request.param:
        refuse_openat2(monkeypatch, request.param)
    tree = Docroot(root)
    yield tree
    tree.close()


def read(tree: Docroot, *names: str | bytes, slash: bool = False) -> bytes | list[str]:
    """Open and read a file, or list a directory."""
    opened = tree.open(tuple(map(os.fsencode, names)), slash=slash)
    try:
        assert opened.is_directory == stat.S_ISDIR(opened.status.st_mode)
        if opened.is_directory:
            return sorted(os.listdir(opened.fd))
        return os.pread(opened.fd, 1000, 0)
    finally:
        os.close(opened.fd)


def refusal(tree: Docroot, *names: str | bytes, slash: bool = False) -> int | None:
    """Return the errno with which a name is refused."""
    with pytest.raises(OSError, match=r"\[Errno") as raised:
        read(tree, *names, slash=slash)
    return raised.value.errno


# -- targets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "names", "slash", "path"),
    [
        ("/", [], True, "/"),
        ("/a", [b"a"], False, "/a"),
        ("/a/", [b"a"], True, "/a/"),
        ("/a//b/./c", [b"a", b"b", b"c"], False, "/a/b/c"),
        ("//evil.example/x", [b"evil.example", b"x"], False, "/evil.example/x"),
        ("/a/.", [b"a"], True, "/a/"),
        ("/%41%20b", [b"A b"], False, "/A%20b"),
        ("/%e4", [b"\xe4"], False, "/%E4"),
        ("/\xe4", [b"\xe4"], False, "/%E4"),
        ("/%C3%A4", [b"\xc3\xa4"], False, "/%C3%A4"),
        ("/%252e%252e/x", [b"%2e%2e", b"x"], False, "/%252e%252e/x"),
        ("/100%", [b"100%"], False, "/100%25"),
        ("/%zz", [b"%zz"], False, "/%25zz"),
        ("/...", [b"..."], False, "/..."),
        ("/..a/a..", [b"..a", b"a.."], False, "/..a/a.."),
        ("/\\..\\x", [b"\\..\\x"], False, "/%5C..%5Cx"),
        ("/<b>&\"'", [b"<b>&\"'"], False, "/%3Cb%3E%26%22%27"),
        ("/a?b=/../c", [b"a"], False, "/a"),
        ("/a#/../c", [b"a"], False, "/a"),
        ("/a%3Fb%23c", [b"a?b#c"], False, "/a%3Fb%23c"),
        ("/a%0d%0aSet-Cookie:%20x", [b"a\r\nSet-Cookie: x"], False, "/a%0D%0ASet-Cookie%3A%20x"),
        ("/%1b[31m%09%7f", [b"\x1b[31m\t\x7f"], False, "/%1B%5B31m%09%7F"),
        ("/a\x01", [b"a\x01"], False, "/a%01"),
        ("http://host/a/b?c", [b"a", b"b"], False, "/a/b"),
        ("HTTPS://host:1/", [], True, "/"),
        ("http://host", [], True, "/"),
    ],
)
def test_a_target_is_names(text, names, slash, path):
    """Percent signs are decoded once, in each name by itself; what a link shows is encoded anew."""
    got = target(text)
    assert (list(got.names), got.slash, got.path) == (names, slash, path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*",
        "a",
        "host:80",
        "ftp://host/a",
        "?/a",
        "/..",
        "/../etc/passwd",
        "/a/../b",
        "/a/..",
        "/%2e%2e/x",
        "/.%2E/x",
        "/%2e./x",
        "/a%2fb",
        "/..%2f..%2fetc%2fpasswd",
        "/%2F",
        "/a%00",
        "/%00/etc",
    ],
)
def test_a_target_that_no_file_can_have(text):
    """Climbing, hidden slashes and NUL, in any spelling."""
    with pytest.raises(BadTarget):
        target(text)


@given(st.text(st.characters(max_codepoint=255), max_size=40))
def test_no_target_is_too_odd(text):
    """What is understood has only names that stay beneath, and a path that is safe in a header."""
    try:
        got = target("/" + text)
    except BadTarget:
        return
    for name in got.names:
        assert name not in (b"", b".", b"..")
        assert b"/" not in name
        assert b"\0" not in name
    assert got.path[:1] == "/"
    assert got.path[:2] != "//"
    assert got.path.isascii()
    assert got.path.isprintable()
    assert " " not in got.path
    assert target(got.path).names == got.names


# -- opening ---------------------------------------------------------------------------------------


def test_files_and_directories_are_opened(tree):
    """With what fstat says of them, and at the root itself."""
    assert read(tree, "file") == b"inside"
    assert read(tree, "sub", "file") == b"deeper"
    assert read(tree) == ["file", "sub"]
    assert read(tree, slash=True) == ["file", "sub"]
    assert read(tree, "sub", slash=True) == ["file"]


def test_a_root_that_is_a_symlink(tmp_path, root):
    """Named by any path that leads there."""
    (tmp_path / "link").symlink_to(root)
    tree = Docroot(tmp_path / "link")
    try:
        assert read(tree, "file") == b"inside"
    finally:
        tree.close()


def test_the_root_of_everything(root):
    """`/` itself may be the root."""
    tree = Docroot("/")
    try:
        assert read(tree, *str(root / "file").split("/")[1:]) == b"inside"
    finally:
        tree.close()


def test_a_root_that_is_moved_goes_on(tmp_path, root, tree):
    """The directory is meant, and not its name; what takes its place is outside."""
    root.rename(tmp_path / "moved")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "new").write_bytes(SECRET)
    (tmp_path / "moved" / "back").symlink_to(tmp_path / "root" / "new")
    assert read(tree, "file") == b"inside"
    assert refusal(tree, "new") == errno.ENOENT
    assert refusal(tree, "back") == errno.ENOENT


@pytest.mark.parametrize("number", [errno.EPERM, errno.EINVAL, errno.E2BIG, errno.EXDEV])
def test_openat2_that_is_refused(root, monkeypatch, number):
    """The name is judged by where it ends; and that could need a disk."""
    refuse_openat2(monkeypatch, number)
    (root / "out").symlink_to("../secret")
    tree = Docroot(root)
    try:
        assert read(tree, "sub", "file") == b"deeper"
        assert refusal(tree, "out") == errno.ENOENT
        with pytest.raises(BlockingIOError):
            tree.open((b"file",), cached=True)
    finally:
        tree.close()


def test_directories_that_are_renamed_all_the_time(root, monkeypatch):
    """The kernel cannot say whether a name stays beneath: it is asked again, and not for ever."""
    answers = []

    def busy(*args):
        answers.append(args)
        raise BlockingIOError(errno.EAGAIN, "a race")

    monkeypatch.setattr(docroot.owned, "open_within", busy)
    tree = Docroot(root)
    try:
        assert refusal(tree, "file") == errno.EAGAIN
        assert len(answers) == 8
    finally:
        tree.close()


def test_a_root_that_is_not_pinned(tmp_path, root):
    """Its name is meant: the directory that has it now."""
    tree = Docroot(root, pin=False)
    try:
        assert read(tree, "file") == b"inside"
        root.rename(tmp_path / "moved")
        assert refusal(tree, "file") == errno.ENOENT
        (tmp_path / "root").mkdir()
        (tmp_path / "root" / "new").write_bytes(b"new")
        assert read(tree, "new") == b"new"
        assert refusal(tree, "file") == errno.ENOENT
        (tmp_path / "root" / "back").symlink_to(tmp_path / "moved" / "file")
        assert refusal(tree, "back") == errno.ENOENT
    finally:
        tree.close()


@pytest.mark.parametrize(("root", "error"), [("none", errno.ENOENT), ("file", errno.ENOTDIR)])
def test_a_root_that_is_none(tmp_path, root, error):
    """Missing, or no directory."""
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=root) as raised:
        Docroot(tmp_path / root)
    assert raised.value.errno == error


@pytest.mark.parametrize(
    ("names", "error"),
    [
        (["none"], errno.ENOENT),
        (["none", "file"], errno.ENOENT),
        (["file", "x"], errno.ENOTDIR),
        (["x" * 256], errno.ENAMETOOLONG),
        (["x" * 200] * 30, errno.ENAMETOOLONG),
    ],
)
def test_a_name_that_is_missing(tree, names, error):
    """The kernel's own answer."""
    assert refusal(tree, *names) == error


def test_a_file_with_a_slash_at_its_end(tree):
    """Is asked for as a directory, which it is not."""
    assert refusal(tree, "file", slash=True) == errno.ENOTDIR


@pytest.mark.parametrize(
    ("link", "leads", "names"),
    [
        ("link", "file", ["link"]),
        ("link", "sub/file", ["link"]),
        ("link", "sub", ["link", "file"]),
        ("sub/link", "../file", ["sub", "link"]),
        ("link", "ROOT/file", ["link"]),
        ("link", "../root/file", ["link"]),
        ("link", "../secret/../root/sub/../file", None),
    ],
)
def test_a_symlink_that_stays_inside(root, tree, link, leads, names):
    """Relative or absolute, to a file or a directory, even by a way that leads out and back."""
    (root / link).symlink_to(leads.replace("ROOT", str(root)))
    if names is None:
        assert refusal(tree, link) == errno.ENOTDIR
        (root / link).unlink()
        (root / link).symlink_to("../away/../root/sub/../file")
        names = [link]
    assert read(tree, *names) in (b"inside", b"deeper")


@pytest.mark.parametrize(
    ("leads", "names"),
    [
        ("../secret", ["link"]),
        ("TMP/secret", ["link"]),
        ("../away", ["link"]),
        ("../away", ["link", "file"]),
        ("TMP/away", ["link", "file"]),
        ("..", ["link", "secret"]),
        ("..", ["link", "away", "file"]),
        ("../root-too/file", ["link"]),
        ("/", ["link", "etc", "passwd"]),
        ("/proc/self/root", ["link", "etc", "passwd"]),
        ("/etc/passwd", ["link"]),
        ("/proc/self/environ", ["link"]),
        ("/proc/self/cwd", ["link"]),
    ],
)
def test_a_symlink_that_leads_out(tmp_path, root, tree, leads, names):
    """Looks like a name that is missing, wherever in the path it stands."""
    (root / "link").symlink_to(leads.replace("TMP", str(tmp_path)))
    assert (root.joinpath(*names)).exists()
    assert refusal(tree, *names) == errno.ENOENT


def test_symlinks_in_a_circle(root, tree):
    """ELOOP, and no endless loop."""
    (root / "one").symlink_to("two")
    (root / "two").symlink_to("one")
    (root / "self").symlink_to("self/x")
    assert refusal(tree, "one") == errno.ELOOP
    assert refusal(tree, "self") == errno.ELOOP


def test_what_is_neither_file_nor_directory(root, tree):
    """A FIFO without a writer, a socket, a device and a link to one: none is waited for."""
    os.mkfifo(root / "fifo")
    os.mknod(root / "device", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    (root / "link").symlink_to("fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(root / "socket"))
        for name in ("fifo", "device", "link", "socket"):
            assert refusal(tree, name) == errno.ENOENT


def test_no_writer_of_a_fifo_is_let_go(root, tree):
    """Asking for a FIFO does not look like a reader to whoever writes to it."""
    os.mkfifo(root / "fifo")
    assert refusal(tree, "fifo") == errno.ENOENT
    with pytest.raises(OSError, match="No such device") as raised:
        os.open(root / "fifo", os.O_WRONLY | os.O_NONBLOCK)
    assert raised.value.errno == errno.ENXIO


def test_a_file_that_may_not_be_read(root, tree):
    """EACCES, for the file and for what lies behind a directory that may not be searched."""
    (root / "file").chmod(0)
    (root / "sub").chmod(0o600)
    (root.parent).chmod(0o755)
    libc = ctypes.CDLL(None, use_errno=True)

    def as_nobody() -> list[int | None]:
        libc.setfsuid(65534)  # of this thread alone; it gives up what root may
        return [refusal(tree, "file"), refusal(tree, "sub", "file")]

    assert Worker(as_nobody).result() == [errno.EACCES, errno.EACCES]


def test_names_of_any_bytes(root, tree):
    """A name need not be UTF-8."""
    os.close(os.open(os.fsencode(root) + b"/\xff\xfe", os.O_CREAT | os.O_WRONLY))
    assert read(tree, b"\xff\xfe") == b""


def test_a_deleted_file_that_is_open_is_still_inside(root, tree):
    """What is opened is what counts; the name may be gone a moment later."""
    opened = tree.open((b"file",))
    (root / "file").unlink()
    assert os.pread(opened.fd, 100, 0) == b"inside"
    os.close(opened.fd)


def test_a_link_that_is_swapped_all_the_time(tmp_path, root, tree):
    """A thread turns a link to and fro; whatever is opened meanwhile is inside."""
    stop = threading.Event()
    flips = 0

    def flip() -> None:
        nonlocal flips
        while not stop.is_set():
            for leads in ("../secret", "file"):
                (root / "next").symlink_to(leads)
                (root / "next").rename(root / "link")
            flips += 1

    (root / "link").symlink_to("file")
    worker = Worker(flip)
    seen: dict[object, int] = {}
    try:
        while min(seen.get(b"inside", 0), seen.get(errno.ENOENT, 0)) < 200 or flips < 200:
            try:
                got: object = read(tree, "link")
            except OSError as error:
                got = error.errno
            seen[got] = seen.get(got, 0) + 1
    finally:
        stop.set()
        worker.result()
    assert set(seen) == {b"inside", errno.ENOENT}


def test_a_directory_that_is_swapped_all_the_time(tmp_path, root, tree):
    """The same for a directory in the middle of the path, replaced by a link that leads out."""
    stop = threading.Event()
    (root / "link").symlink_to("sub")
    flips = 0

    def flip() -> None:
        nonlocal flips
        while not stop.is_set():
            for leads in ("../away", "sub"):
                (root / "next").symlink_to(leads)
                (root / "next").rename(root / "link")
            flips += 1

    worker = Worker(flip)
    seen: dict[object, int] = {}
    try:
        while min(seen.get(b"deeper", 0), seen.get(errno.ENOENT, 0)) < 200 or flips < 200:
            try:
                got: object = read(tree, "link", "file")
            except OSError as error:
                got = error.errno
            seen[got] = seen.get(got, 0) + 1
    finally:
        stop.set()
        worker.result()
    assert set(seen) == {b"deeper", errno.ENOENT}


def test_closing_twice(root):
    """Is as closing once."""
    tree = Docroot(Path(root))
    tree.close()
    tree.close()
