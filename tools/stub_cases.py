"""What mypy has to say of spliceio/_cffi.pyi: nothing of `right`, and each mistake of `wrong`.

For tools/check_stub.py, which expects the error in brackets in every line that names one, and no
other error. tests/test_stub.py calls `right`, so that what the stub allows is what cffi takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spliceio._cffi import ffi, lib

if TYPE_CHECKING:
    from spliceio._cffi import (
        Pointer,
        c_int64_t,
        struct_sio_transfer,
        struct_sio_transfer_config,
        struct_sio_transfer_config_ptr,
        struct_sio_transfer_ptr,
    )

_SECOND = 10**9


def right(fd: int) -> None:
    """Use what there is; `fd` is a pipe that can be written to."""
    # A new struct, its fields, a struct in it, an array in it.
    job = ffi.new("struct sio_job_config *")
    job.idle_ns = -1
    job.relay.limit = 80
    job.relay = {"limit": 8080}
    job.fds[0:2] = [3, 4]
    assert sum(job.fds) == 7
    assert (job.relay.limit, len(job.fds), job.fds[1]) == (8080, 4, 4)
    job.fds = [0] * 4
    assert job.completions == ffi.NULL
    assert not job.completions
    relay = ffi.addressof(job.relay)
    relay.stop_at_eof = 2
    assert job.relay.stop_at_eof == 2
    job.relay = ffi.new("struct sio_relay_config *", {"limit": -1})[0]
    assert (relay.limit, relay.stop_at_eof) == (-1, 0)
    report = ffi.new("struct sio_proxy_report *")
    report.client.ip = [1] * 16
    report.client = {"port": 80, "ip": bytes(16)}
    assert (report.client.port, bytes(ffi.buffer(report.client.ip, 2))) == (80, b"\0\0")
    report.reason = lib.SIO_REASON_IDLE
    assert report.reason == lib.SIO_REASON_IDLE
    # NULL for any pointer, bytes for a pointer to const, a buffer for both.
    count = ffi.new("int64_t *")
    assert lib.sio_page_gift_put(ffi.NULL, fd, b"bytes", 5, _SECOND, count) == 5
    memory = ffi.from_buffer("unsigned char[]", bytearray(b"buffer"))
    assert lib.sio_page_gift_put(ffi.NULL, fd, memory + 2, 4, _SECOND, count) == 4
    with ffi.from_buffer(bytearray(b"buffer")) as chars:
        assert lib.sio_page_gift_put(ffi.NULL, fd, chars, len(chars), _SECOND, count) == 6
    assert count[0] == 15
    # Arrays: of numbers, of structs, of pointers; each goes where a pointer to an item does.
    counts = ffi.new("int64_t[]", 2)
    counts[1] = 2
    beyond = counts + 1
    assert (list(counts), beyond[0]) == ([0, 2], 2)
    segments = ffi.new("struct sio_segment[]", [(ffi.NULL, 0, 7), {"memory": memory, "len": 6}])
    second = segments + 1
    assert (segments[0].len, second.len, [one.offset for one in segments]) == (7, 6, [0, 0])
    config = ffi.gc(ffi.new("struct sio_transfer_config *", {"src": -1, "dst": -1}), id)
    config.segments = segments
    config.segments = ffi.NULL
    bases = ffi.new("void *[]", [ffi.cast("void *", memory), ffi.NULL])
    assert bases[0] == ffi.cast("void *", memory)
    word = ffi.new("char **")
    letters = ffi.new("char[]", b"letters")
    word[0] = letters
    assert ffi.string(word[0]) == b"letters"
    assert bytes(ffi.buffer(letters, 3)) == b"let"
    assert int(ffi.cast("intptr_t", letters)) != 0
    assert dict(ffi.typeof("struct sio_segment").fields)["len"].type.cname == "int64_t"
    # Opaque structs: C makes and frees them, and a pointer to one is passed, kept and compared.
    flow = ffi.gc(lib.sio_transfer_new(config), lib.sio_transfer_free)
    assert lib.sio_transfer_prefix(flow, b"ahead", 5, 0) == 0
    assert lib.sio_transfer_error(flow).err == 0
    assert lib.sio_transfer_refusal(flow, 0) == ffi.NULL
    relay.ab = flow
    relay.ba = ffi.NULL
    assert (job.relay.ab == flow, bool(job.relay.ba)) == (True, False)
    flows = ffi.new("struct sio_transfer *[]", [flow, ffi.NULL])
    fanout = ffi.new("struct sio_fanout_config *")
    fanout.out = flows
    assert fanout.out[0] == flow
    assert fanout.out[1] == ffi.NULL
    assert ffi.cast("struct sio_transfer *", ffi.cast("void *", flow)) == flow
    with ffi.gc(lib.sio_completions_new(), lib.sio_completions_free) as completions:
        assert lib.sio_completions_wait(completions, 0) == 0
        assert lib.sio_completions_take(completions, ffi.new("int32_t *")) == ffi.NULL


def wrong(
    flow: struct_sio_transfer_ptr,
    opaque: struct_sio_transfer,
    config: struct_sio_transfer_config_ptr,
    plain: struct_sio_transfer_config,
) -> None:
    """Make every mistake once."""
    # What is passed.
    lib.sio_transfer_close(lib.sio_completions_new())  # [arg-type]
    lib.sio_transfer_close(config)  # [arg-type]
    lib.sio_transfer_close(opaque)  # [arg-type]
    lib.sio_transfer_close(0)  # [arg-type]
    lib.sio_transfer_close(None)  # [arg-type]
    lib.sio_transfer_close(b"bytes")  # [arg-type]
    lib.sio_transfer_close(ffi.cast("void *", flow))  # [arg-type]
    lib.sio_transfer_new(flow)  # [arg-type]
    lib.sio_transfer_new(plain)  # [arg-type]
    lib.sio_transfer_new(ffi.new("struct sio_relay_config *"))  # [arg-type]
    lib.sio_transfer_new({"src": -1})  # [arg-type]
    lib.sio_transfer_run(flow, 1)  # [call-arg]
    lib.sio_transfer_run(flow, 1, 2, 3)  # [call-arg]
    lib.sio_transfer_run(flow, 1.5, 2)  # [arg-type]
    lib.sio_transfer_run(flow, ffi.NULL, 2)  # [arg-type]
    lib.sio_transfer_run(t=flow, ns=1, idle_ns=2)  # [call-arg]
    lib.sio_page_gift_put(ffi.NULL, 0, b"data", 4, 1, ffi.new("int32_t *"))  # [arg-type]
    lib.sio_page_gift_put(ffi.NULL, 0, "text", 4, 1, ffi.NULL)  # [arg-type]
    lib.sio_page_gift_put(ffi.NULL, 0, bytearray(4), 4, 1, ffi.NULL)  # [arg-type]
    lib.sio_peek(ffi.NULL, 0, b"what does not change", 9)  # [arg-type]
    # What comes back.
    text: str = lib.sio_transfer_held(flow)  # [assignment]
    name: str = ffi.string(ffi.new("char[]", b"name"))  # [assignment]
    users: Pointer[c_int64_t] = lib.sio_completions_new()  # [assignment]
    print(text, name, users)
    # What there is.
    lib.sio_transfer_clsoe(flow)  # [attr-defined]
    print(lib.SIO_REASON_IDEL)  # [attr-defined]
    lib.SIO_REASON_IDLE = 3  # [misc]
    print(config.letf)  # [attr-defined]
    config.off_src = 3  # [attr-defined]
    print(plain.letf)  # [attr-defined]
    print(lib.sio_transfer_refusal(flow, 0).moved)  # [attr-defined]
    print(config.segments[0].memry)  # [attr-defined]
    print(plain.src_is.inode)  # [attr-defined]
    config.left = "all"  # [assignment]
    config.src_is = 3  # [assignment]
    config.faults = lib.sio_completions_new()  # [assignment]
    config.faults = 0  # [assignment]
    config.methods = 3  # [assignment]
    config.methods[0] = "copy"  # [call-overload]
    print(ffi.new("struct sio_segment[]", 2).len)  # [attr-defined]
    # What an opaque struct has not.
    print(flow.moved)  # [attr-defined]
    flow.left = 3  # [attr-defined]
    print(opaque.moved)  # [attr-defined]
    print(flow[0])  # [index]
    print(flow + 1)  # [operator]
    print(ffi.typeof("struct sio_transfer").fields)  # [attr-defined]
    ffi.new("struct sio_transfer *")  # [call-overload]
    ffi.new("struct sio_transfer[]", 2)  # [call-overload]
    ffi.new("struct sio_transfer *[]", [config])  # [call-overload]
    # What is made.
    ffi.new("struct sio_transfre_config *")  # [call-overload]
    ffi.new("int64_t *", "zero")  # [call-overload]
    ffi.gc(flow, lib.sio_completions_free)  # [arg-type]
    ffi.addressof(config)  # [arg-type]
    ffi.string(config)  # [arg-type]
