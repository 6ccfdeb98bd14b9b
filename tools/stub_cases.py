"""What mypy has to say of spliceio/_cffi.pyi: nothing of `right`, and each mistake of `wrong`.

For tools/check_stub.py, which expects the error in brackets in every line that names one, and no
other error. tests/test_stub.py calls `right`, so that what the stub allows is what cffi takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spliceio._cffi import ffi, lib

if TYPE_CHECKING:
    from spliceio._cffi import Pointer, c_int64_t, struct_sio_transfer, struct_sio_transfer_ptr


def right(fd: int) -> None:
    """Use what there is; `fd` is a descriptor that can be written to."""
    # A new struct, its fields, a struct in it, an array in it.
    link = ffi.new("struct sio_link *")
    link.idle_ns = -1
    link.client.port = 80
    link.client.ip = [0] * 16
    link.server = link.client
    link.server = {"port": 8080}
    link.fds[0:2] = [3, 4]
    assert sum(link.fds) == 7
    assert (link.server.port, len(link.fds), link.fds[1]) == (8080, 4, 4)
    assert link.engine == ffi.NULL
    assert not link.engine
    relay = ffi.addressof(link.relay)
    relay.reason = lib.SIO_REASON_IDLE
    assert link.relay.reason == lib.SIO_REASON_IDLE
    # NULL for any pointer, bytes for a pointer to const, a buffer for both.
    assert lib.sio_write(ffi.NULL, fd, ffi.NULL, b"bytes", 5) == 5
    memory = ffi.from_buffer("unsigned char[]", bytearray(b"buffer"))
    assert lib.sio_write(ffi.NULL, fd, ffi.NULL, memory + 2, 4) == 4
    with ffi.from_buffer(bytearray(b"buffer")) as chars:
        assert lib.sio_write(ffi.NULL, fd, ffi.NULL, chars, len(chars)) == 6
    # Arrays: of numbers, of structs, of pointers; each goes where a pointer to an item does.
    counts = ffi.new("int64_t[]", 2)
    counts[1] = 2
    beyond = counts + 1
    assert (list(counts), beyond[0]) == ([0, 2], 2)
    parts = ffi.new("struct sio_part[]", [(ffi.NULL, 0, 7), {"memory": memory, "len": 6}])
    second = parts + 1
    assert (parts[0].len, second.len, [part.offset for part in parts]) == (7, 6, [0, 0])
    flow = ffi.gc(ffi.new("struct sio_transfer *", {"src": -1, "dst": -1}), id)
    flow.parts = parts
    flow.parts = ffi.NULL
    bases = ffi.new("void *[]", [ffi.cast("void *", memory), ffi.NULL])
    assert bases[0] == ffi.cast("void *", memory)
    word = ffi.new("char **")
    letters = ffi.new("char[]", b"letters")
    word[0] = letters
    assert ffi.string(word[0]) == b"letters"
    assert bytes(ffi.buffer(letters, 3)) == b"let"
    assert int(ffi.cast("intptr_t", letters)) != 0
    assert dict(ffi.typeof("struct sio_part").fields)["len"].type.cname == "int64_t"
    assert lib.sio_proxy_read(b"PROXY", 5, ffi.NULL, ffi.NULL) == 0


def wrong(flow: struct_sio_transfer_ptr, plain: struct_sio_transfer) -> None:
    """Make every mistake once."""
    # What is passed.
    lib.sio_transfer_close(ffi.new("struct sio_relay *"))  # [arg-type]
    lib.sio_transfer_close(plain)  # [arg-type]
    lib.sio_transfer_close(0)  # [arg-type]
    lib.sio_transfer_close(None)  # [arg-type]
    lib.sio_transfer_close(b"bytes")  # [arg-type]
    lib.sio_transfer_close(ffi.cast("void *", flow))  # [arg-type]
    lib.sio_transfer_run(flow, 1)  # [call-arg]
    lib.sio_transfer_run(flow, 1, 2, 3)  # [call-arg]
    lib.sio_transfer_run(flow, 1.5, 2)  # [arg-type]
    lib.sio_transfer_run(flow, ffi.NULL, 2)  # [arg-type]
    lib.sio_transfer_run(t=flow, ns=1, idle_ns=2)  # [call-arg]
    lib.sio_read(ffi.NULL, 0, ffi.new("int32_t *"), ffi.new("char[]", 9), 9)  # [arg-type]
    lib.sio_read(ffi.NULL, 0, ffi.NULL, b"what does not change", 9)  # [arg-type]
    lib.sio_write(ffi.NULL, 0, ffi.NULL, "text", 4)  # [arg-type]
    lib.sio_write(ffi.NULL, 0, ffi.NULL, bytearray(4), 4)  # [arg-type]
    # What comes back.
    text: str = lib.sio_transfer_held(flow)  # [assignment]
    name: str = ffi.string(ffi.new("char[]", b"name"))  # [assignment]
    users: Pointer[c_int64_t] = lib.sio_news_new()  # [assignment]
    print(text, name, users)
    # What there is.
    lib.sio_transfer_clsoe(flow)  # [attr-defined]
    print(lib.SIO_REASON_IDEL)  # [attr-defined]
    lib.SIO_REASON_IDLE = 3  # [misc]
    print(flow.moevd)  # [attr-defined]
    flow.off_scr = 3  # [attr-defined]
    print(plain.moevd, flow.refusals[0].moved)  # [attr-defined]
    print(flow.parts[0].memry)  # [attr-defined]
    flow.left = "all"  # [assignment]
    flow.seam = ffi.new("struct sio_rule *")  # [assignment]
    flow.seam = 0  # [assignment]
    flow.methods = 3  # [assignment]
    flow.methods[0] = "copy"  # [call-overload]
    print(ffi.new("struct sio_part[]", 2).len)  # [attr-defined]
    # What is made.
    ffi.new("struct sio_transfre *")  # [call-overload]
    ffi.new("struct sio_engine *")  # [call-overload]
    ffi.new("int64_t *", "zero")  # [call-overload]
    ffi.gc(flow, lib.sio_news_free)  # [arg-type]
    ffi.addressof(flow)  # [arg-type]
    ffi.string(flow)  # [arg-type]
    print(lib.sio_news_new()[0])  # [index]
