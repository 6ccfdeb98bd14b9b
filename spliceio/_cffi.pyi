# Made by tools/stub.py from csrc/api.h, and tools/stub_head.pyi: change those, then `make stub`.
#
# At run time the module has `ffi` and `lib` alone. The types are for annotations: import them where
# TYPE_CHECKING is true.

# What cffi has of its own, as types: pointers, arrays, structs. tools/stub.py puts this file before
# what it makes of csrc/api.h. It says what cffi takes, and less where cffi would take a mistake:
#
# - a `void *` is cast before it is passed as a pointer to something; only NULL fits all;
# - bytes and lists are passed for a pointer to const alone: what C writes to them is lost, or is
#   written to an object that does not change;
# - an int is no pointer, None is no NULL, and a struct is not a pointer to itself.

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, Generic, Literal, NoReturn, ParamSpec, TypeVar, overload

from typing_extensions import Buffer, Self

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)
_Get_co = TypeVar("_Get_co", covariant=True)
_Set_contra = TypeVar("_Set_contra", contravariant=True)
_Arguments = ParamSpec("_Arguments")

# -- what a pointer can point at: the C types ----------------------------------------------------

class Plain: ...

class Scalar(Plain, Generic[_T]):
    """A C type whose values are values of Python, of type `_T`."""

class Byte: ...
class Opaque: ...
class c_void(Opaque): ...
class c_char(Scalar[bytes], Byte): ...
class c_signed_char(Scalar[int], Byte): ...
class c_unsigned_char(Scalar[int], Byte): ...

# -- values of cffi ------------------------------------------------------------------------------

class CData:
    """A value of C, in the hands of Python."""

    def __bool__(self) -> bool: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...

class Integer(CData):
    """What `ffi.cast` makes of a pointer: its address."""

    def __int__(self) -> int: ...

class Struct(CData, Generic[_T_co]):
    """A struct, where it is; a pointer to it is a `_T_co`."""

class Address(CData):
    """What fits a `void *`: a pointer or array of anything."""

class Function(Address, Generic[_Arguments, _T_co]):
    """A pointer to a function of C."""

    def __call__(self, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _T_co: ...

class Pointer(Address, Generic[_T_co]):
    """What can be passed as a pointer to a `_T_co`."""

class Items(Pointer[_T_co]):
    """A pointer to a `_T_co` that is known, or to the first of several."""

    @overload
    def __getitem__(self: Items[Scalar[_T]], index: int, /) -> _T: ...
    @overload
    def __getitem__(self: Items[_Data], index: int, /) -> _Data: ...
    @overload
    def __getitem__(self, index: slice, /) -> Array[_T_co]: ...
    @overload
    def __setitem__(self: Items[Scalar[_T]], index: int, value: _T, /) -> None: ...
    @overload
    def __setitem__(self: Items[Scalar[_T]], index: slice, value: Iterable[_T], /) -> None: ...
    @overload
    def __setitem__(self: Items[Pointer[_T]], index: int, value: Pointer[_T], /) -> None: ...
    @overload
    def __setitem__(self: Items[Struct[_T]], index: int, value: Struct[_T] | Fields, /) -> None: ...
    @overload
    def __add__(self: Items[Struct[_T]], count: int, /) -> _T: ...
    @overload
    def __add__(self: Items[_Plain], count: int, /) -> Items[_Plain]: ...

class Array(Items[_T_co]):
    """So many of them, side by side."""

    def __len__(self) -> int: ...
    @overload
    def __iter__(self: Array[Scalar[_T]]) -> Iterator[_T]: ...
    @overload
    def __iter__(self: Array[_Data]) -> Iterator[_Data]: ...

class Null(Pointer[NoReturn]):
    """NULL, which fits every pointer."""

_Data = TypeVar("_Data", bound=CData)
_Plain = TypeVar("_Plain", bound=Plain | Address)
_Address = TypeVar("_Address", bound=Address)
_Function = TypeVar("_Function")

# What a struct is made from. cffi has no type for the fields by place or by name: it looks at them
# one by one.
Fields = Sequence[object] | Mapping[str, object]

class Member(Generic[_Get_co, _Set_contra]):
    """A field that reads as one type and is set from more."""

    def __get__(self, struct: object, owner: object, /) -> _Get_co: ...
    def __set__(self, struct: object, value: _Set_contra, /) -> None: ...

class CType:
    """A type of C, as `ffi.typeof` gives it."""

    cname: Final[str]
    kind: Final[str]

class CField:
    """A field of a struct, as `ffi.typeof` gives it."""

    type: Final[CType]
    offset: Final[int]

class StructType(CType):
    """A struct, as `ffi.typeof` gives it."""

    fields: Final[list[tuple[str, CField]]]

class Memory:
    """What `ffi.buffer` makes of a pointer: memory that Python can read and write."""

    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, index: int, /) -> bytes: ...
    @overload
    def __getitem__(self, index: slice, /) -> bytes: ...
    @overload
    def __setitem__(self, index: int, value: bytes, /) -> None: ...
    @overload
    def __setitem__(self, index: slice, value: Buffer, /) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

class _FFI:
    NULL: Final[Null]
    errno: int
    error: type[Exception]
    def addressof(self, struct: Struct[_T], /) -> _T: ...
    def buffer(self, cdata: Address, size: int = ..., /) -> Memory: ...
    @overload
    def gc(
        self, cdata: _Address, destructor: Callable[[_Address], object], size: int = ..., /
    ) -> _Address: ...
    @overload
    def gc(self, cdata: Address, destructor: None, size: int = ..., /) -> None: ...
    def memmove(self, dest: Address | Buffer, src: Address | Buffer, n: int) -> None: ...
    def release(self, cdata: CData, /) -> None: ...
    def sizeof(self, cdata: CData | str, /) -> int: ...
    def string(self, cdata: Pointer[Byte], maxlen: int = ...) -> bytes: ...

# -- of csrc/api.h: the types ---------------------------------------------------------------------

class c_int(Scalar[int]): ...
class c_int32_t(Scalar[int]): ...
class c_int64_t(Scalar[int]): ...
class c_size_t(Scalar[int]): ...
class c_uint8_t(Scalar[int]): ...

class struct_epoll_event(Opaque): ...
class struct_epoll_event_ptr(Pointer[struct_epoll_event]): ...

class struct_pollfd(Opaque): ...
class struct_pollfd_ptr(Pointer[struct_pollfd]): ...

class _struct_sio_about:
    err: int
    kind: int
    mode: int
    flags: int
    domain: int
    type: int
    protocol: int
    listening: int
    connected: int
    seals: int
    dev: int
    rdev: int
    ino: int
    size: int
    filesystem: int
    no_read: int
    no_write: int

class struct_sio_about(_struct_sio_about, Struct[struct_sio_about_ptr]): ...
class struct_sio_about_ptr(_struct_sio_about, Items[struct_sio_about]): ...

class struct_sio_conn_ops(Opaque): ...
class struct_sio_conn_ops_ptr(Pointer[struct_sio_conn_ops]): ...

class _struct_sio_counts:
    active: int
    total: int
    a_to_b: int
    b_to_a: int
    copied: int
    failed: int
    untold: int
    full: int
    pipes_open: int
    pipes_held: int

class struct_sio_counts(_struct_sio_counts, Struct[struct_sio_counts_ptr]): ...
class struct_sio_counts_ptr(_struct_sio_counts, Items[struct_sio_counts]): ...

class struct_sio_engine(Opaque): ...
class struct_sio_engine_ptr(Pointer[struct_sio_engine]): ...

class _struct_sio_fanout:
    seam: Member[struct_sio_seam_ptr, Pointer[struct_sio_seam]]
    # in: Member[struct_sio_transfer_ptr, Pointer[struct_sio_transfer]]
    sink_count: int
    copying: int
    wake_fd: int
    stall_ns: int
    sinks: Member[struct_sio_sink_ptr, Pointer[struct_sio_sink]]
    base: int
    end: int
    attached: int
    handed: int
    last: int
    direct: int
    eof: int
    failed: int
    refused: int
    refused_call: int
    changed: int
    want_src: int
    interrupted: int
    waiting: int
    doubt: int
    woken: int
    null_fd: int
    head_r: int
    head_held: int
    full_at: int
    mem: Member[Items[c_unsigned_char], Pointer[Byte]]
    mem_size: int
    mem_pos: int
    mem_len: int
    progress: int
    active_ns: int
    active_mark: int
    fds: Member[struct_pollfd_ptr, Pointer[struct_pollfd]]

class struct_sio_fanout(_struct_sio_fanout, Struct[struct_sio_fanout_ptr]): ...
class struct_sio_fanout_ptr(_struct_sio_fanout, Items[struct_sio_fanout]): ...

class _struct_sio_gate_setup:
    news: Member[struct_sio_news_ptr, Pointer[struct_sio_news]]
    route: int
    tell: int
    proxy_protocol: int
    method: int
    idle_ns: int
    connect_ns: int
    peek_ns: int
    most: int
    open: Member[Items[c_int64_t], Pointer[c_int64_t]]
    trusted: Member[struct_sio_network_ptr, Pointer[struct_sio_network]]
    trusted_count: int
    shared: int
    keepalive: int

class struct_sio_gate_setup(_struct_sio_gate_setup, Struct[struct_sio_gate_setup_ptr]): ...
class struct_sio_gate_setup_ptr(_struct_sio_gate_setup, Items[struct_sio_gate_setup]): ...

class struct_sio_gift(Opaque): ...
class struct_sio_gift_ptr(Pointer[struct_sio_gift]): ...

class _struct_sio_identity:
    dev: int
    ino: int

class struct_sio_identity(_struct_sio_identity, Struct[struct_sio_identity_ptr]): ...
class struct_sio_identity_ptr(_struct_sio_identity, Items[struct_sio_identity]): ...

class struct_sio_lender(Opaque): ...
class struct_sio_lender_ptr(Pointer[struct_sio_lender]): ...

class _struct_sio_link:
    relay: Member[struct_sio_relay, struct_sio_relay | Fields]
    news: Member[struct_sio_news_ptr, Pointer[struct_sio_news]]
    idle_ns: int
    one_way: int
    accepted: int
    fds: Member[Array[c_int32_t], Array[c_int32_t] | Sequence[int]]
    modes: Member[struct_sio_modes_ptr, Pointer[struct_sio_modes]]
    loans: Member[
        Array[struct_sio_loan],
        Array[struct_sio_loan] | Sequence[struct_sio_loan | Fields],
    ]
    engine: Member[struct_sio_engine_ptr, Pointer[struct_sio_engine]]
    ops: Member[struct_sio_conn_ops_ptr, Pointer[struct_sio_conn_ops]]
    phase: int
    failed: int
    err: int
    upstream: int
    state: Member[Array[c_int32_t], Array[c_int32_t] | Sequence[int]]
    seen: Member[Array[c_int32_t], Array[c_int32_t] | Sequence[int]]
    parked: int
    muted: int
    index: int
    is_ready: int
    begun_ns: int
    connected_ns: int
    moved_ns: int
    ended_ns: int
    timer: Member[struct_sio_timer, struct_sio_timer | Fields]
    next_ready: Member[struct_sio_link_ptr, Pointer[struct_sio_link]]
    next_done: Member[struct_sio_link_ptr, Pointer[struct_sio_link]]
    asked: int
    is_cancelled: int
    released: int
    answer: Member[struct_sio_upstreams_ptr, Pointer[struct_sio_upstreams]]
    next_asked: Member[struct_sio_link_ptr, Pointer[struct_sio_link]]
    told: int
    is_told: int
    next_told: Member[struct_sio_link_ptr, Pointer[struct_sio_link]]
    client: Member[struct_sio_peer, struct_sio_peer | Fields]
    server: Member[struct_sio_peer, struct_sio_peer | Fields]
    lent: int
    won: int
    last_peek: int
    step_ns: int
    deadline: int
    peeked: Member[Items[c_unsigned_char], Pointer[Byte]]
    peeked_len: int
    tries: int
    chosen: int
    short_of: int
    shortages: int
    told_upstream: int
    told_err: int
    next_address: int
    attempts: Member[Array[c_int32_t], Array[c_int32_t] | Sequence[int]]
    attempted: Member[Array[c_int32_t], Array[c_int32_t] | Sequence[int]]
    routed: Member[struct_sio_upstreams_ptr, Pointer[struct_sio_upstreams]]
    tried: Member[struct_sio_upstreams_ptr, Pointer[struct_sio_upstreams]]

class struct_sio_link(_struct_sio_link, Struct[struct_sio_link_ptr]): ...
class struct_sio_link_ptr(_struct_sio_link, Items[struct_sio_link]): ...

class _struct_sio_loan:
    device: int
    inode: int
    fd: int
    was_blocking: int
    next: Member[struct_sio_loan_ptr, Pointer[struct_sio_loan]]

class struct_sio_loan(_struct_sio_loan, Struct[struct_sio_loan_ptr]): ...
class struct_sio_loan_ptr(_struct_sio_loan, Items[struct_sio_loan]): ...

class _struct_sio_log_row:
    call: int
    site: int
    # in: int
    out: int
    flags: int
    len: int
    result: int

class struct_sio_log_row(_struct_sio_log_row, Struct[struct_sio_log_row_ptr]): ...
class struct_sio_log_row_ptr(_struct_sio_log_row, Items[struct_sio_log_row]): ...

class struct_sio_modes(Opaque): ...
class struct_sio_modes_ptr(Pointer[struct_sio_modes]): ...

class _struct_sio_network:
    ip: Member[Array[c_uint8_t], Array[c_uint8_t] | Sequence[int] | bytes]
    bits: int

class struct_sio_network(_struct_sio_network, Struct[struct_sio_network_ptr]): ...
class struct_sio_network_ptr(_struct_sio_network, Items[struct_sio_network]): ...

class struct_sio_news(Opaque): ...
class struct_sio_news_ptr(Pointer[struct_sio_news]): ...

class _struct_sio_owned:
    fd: int

class struct_sio_owned(_struct_sio_owned, Struct[struct_sio_owned_ptr]): ...
class struct_sio_owned_ptr(_struct_sio_owned, Items[struct_sio_owned]): ...

class _struct_sio_part:
    memory: Member[Items[c_unsigned_char], Pointer[Byte]]
    offset: int
    len: int

class struct_sio_part(_struct_sio_part, Struct[struct_sio_part_ptr]): ...
class struct_sio_part_ptr(_struct_sio_part, Items[struct_sio_part]): ...

class _struct_sio_peer:
    ip: Member[Array[c_uint8_t], Array[c_uint8_t] | Sequence[int] | bytes]
    port: int
    family: int

class struct_sio_peer(_struct_sio_peer, Struct[struct_sio_peer_ptr]): ...
class struct_sio_peer_ptr(_struct_sio_peer, Items[struct_sio_peer]): ...

class _struct_sio_refusal:
    method: int
    err: int
    call: int
    site: int

class struct_sio_refusal(_struct_sio_refusal, Struct[struct_sio_refusal_ptr]): ...
class struct_sio_refusal_ptr(_struct_sio_refusal, Items[struct_sio_refusal]): ...

class _struct_sio_relay:
    ab: Member[struct_sio_transfer_ptr, Pointer[struct_sio_transfer]]
    ba: Member[struct_sio_transfer_ptr, Pointer[struct_sio_transfer]]
    limit_left: int
    stop_when_gone: int
    stop_at_eof: int
    closes: int
    closes_later: int
    over: int
    finished: int
    reason: int
    failed: int
    waiting: int
    state: Member[Array[c_int32_t], Array[c_int32_t] | Sequence[int]]
    active_ns: int
    active_mark: int

class struct_sio_relay(_struct_sio_relay, Struct[struct_sio_relay_ptr]): ...
class struct_sio_relay_ptr(_struct_sio_relay, Items[struct_sio_relay]): ...

class _struct_sio_rule:
    call: int
    site: int
    skip: int
    times: int
    action: int
    value: int

class struct_sio_rule(_struct_sio_rule, Struct[struct_sio_rule_ptr]): ...
class struct_sio_rule_ptr(_struct_sio_rule, Items[struct_sio_rule]): ...

class _struct_sio_seam:
    rules: Member[struct_sio_rule_ptr, Pointer[struct_sio_rule]]
    rule_count: int
    site: int
    capped: int
    log: Member[struct_sio_log_row_ptr, Pointer[struct_sio_log_row]]
    log_size: int
    log_count: int

class struct_sio_seam(_struct_sio_seam, Struct[struct_sio_seam_ptr]): ...
class struct_sio_seam_ptr(_struct_sio_seam, Items[struct_sio_seam]): ...

class _struct_sio_sink:
    out: Member[struct_sio_transfer_ptr, Pointer[struct_sio_transfer]]
    pipe_r: int
    pipe_w: int
    staged: int
    got: int
    teed: int
    full: int
    fate: int
    beyond: int
    full_ns: int
    full_mark: int

class struct_sio_sink(_struct_sio_sink, Struct[struct_sio_sink_ptr]): ...
class struct_sio_sink_ptr(_struct_sio_sink, Items[struct_sio_sink]): ...

class _struct_sio_timer:
    due: int
    place: int
    fire: Member[
        Function[[Pointer[struct_sio_engine], Pointer[struct_sio_timer]], None],
        Function[[Pointer[struct_sio_engine], Pointer[struct_sio_timer]], None] | Null,
    ]

class struct_sio_timer(_struct_sio_timer, Struct[struct_sio_timer_ptr]): ...
class struct_sio_timer_ptr(_struct_sio_timer, Items[struct_sio_timer]): ...

class _struct_sio_transfer:
    seam: Member[struct_sio_seam_ptr, Pointer[struct_sio_seam]]
    src: int
    dst: int
    pid: int
    src_kind: int
    dst_kind: int
    methods: Member[Array[c_int32_t], Array[c_int32_t] | Sequence[int]]
    method_count: int
    left: int
    known: int
    off_src: int
    off_dst: int
    pipe_size: int
    adaptive: int
    level_poll: int
    edge_poll: int
    shares: int
    src_is: Member[struct_sio_identity, struct_sio_identity | Fields]
    dst_is: Member[struct_sio_identity, struct_sio_identity | Fields]
    lender: Member[struct_sio_lender_ptr, Pointer[struct_sio_lender]]
    parts: Member[struct_sio_part_ptr, Pointer[struct_sio_part]]
    part_count: int
    part: int
    part_pos: int
    from_memory: int
    cork: int
    holes: int
    hole_last: int
    extent: int
    skipped: int
    reserve: int
    reserved: int
    small: int
    current: int
    moved: int
    taken: int
    by_method: Member[Array[c_int64_t], Array[c_int64_t] | Sequence[int]]
    refusals: Member[
        Array[struct_sio_refusal],
        Array[struct_sio_refusal] | Sequence[struct_sio_refusal | Fields],
    ]
    refusal_count: int
    err: int
    err_side: int
    err_call: int
    err_method: int
    sticky: int
    eof: int
    pipe_r: int
    pipe_w: int
    pipe_held: int
    slots: int
    dst_free: int
    buf: Member[Items[c_unsigned_char], Pointer[Byte]]
    buf_lent: int
    buf_size: int
    buf_pos: int
    buf_len: int
    chunk: int
    src_nonblock: int
    dst_nonblock: int
    src_ready: int
    src_dry: int
    src_special: int
    dst_full: int
    doubt: int
    yielded: int
    guessed: int
    guess_dst: int
    unwatch_dst: int
    waiting: int
    wake_fd: int
    active_ns: int
    active_mark: int

class struct_sio_transfer(_struct_sio_transfer, Struct[struct_sio_transfer_ptr]): ...
class struct_sio_transfer_ptr(_struct_sio_transfer, Items[struct_sio_transfer]): ...

class _struct_sio_trouble:
    err: int
    call: int
    stopped: int
    times: int

class struct_sio_trouble(_struct_sio_trouble, Struct[struct_sio_trouble_ptr]): ...
class struct_sio_trouble_ptr(_struct_sio_trouble, Items[struct_sio_trouble]): ...

class struct_sio_upstreams(Opaque): ...
class struct_sio_upstreams_ptr(Pointer[struct_sio_upstreams]): ...

class struct_sockaddr_storage(Opaque): ...
class struct_sockaddr_storage_ptr(Pointer[struct_sockaddr_storage]): ...

# -- the functions and constants ------------------------------------------------------------------

class Lib:
    SIO_MAX_COUNT: Final[int]
    SIO_NO_OFFSET: Final[int]
    SIO_BAD_COUNT: Final[int]
    SIO_GIFT_REGION: Final[int]
    SIO_GIFT_SMALL: Final[int]
    SIO_CALL_SPLICE: Final[int]
    SIO_CALL_TEE: Final[int]
    SIO_CALL_VMSPLICE: Final[int]
    SIO_CALL_SENDFILE: Final[int]
    SIO_CALL_COPY_FILE_RANGE: Final[int]
    SIO_CALL_READ: Final[int]
    SIO_CALL_WRITE: Final[int]
    SIO_CALL_POLL: Final[int]
    SIO_CALL_PIPE: Final[int]
    SIO_CALL_SHUTDOWN: Final[int]
    SIO_CALL_UNREAD: Final[int]
    SIO_CALL_CLONE: Final[int]
    SIO_CALL_FALLOCATE: Final[int]
    SIO_CALL_SEEK: Final[int]
    SIO_CALL_TRUNCATE: Final[int]
    SIO_CALL_ACCEPT: Final[int]
    SIO_CALL_SOCKET: Final[int]
    SIO_CALL_CONNECT: Final[int]
    SIO_CALL_PEEK: Final[int]
    SIO_CALL_UNSENT: Final[int]
    SIO_CALL_EPOLL_CTL: Final[int]
    SIO_CALL_EPOLL_WAIT: Final[int]
    SIO_SITE_ANY: Final[int]
    SIO_SITE_DIRECT: Final[int]
    SIO_SITE_FILL: Final[int]
    SIO_SITE_DRAIN: Final[int]
    SIO_SITE_MEMORY: Final[int]
    SIO_SITE_STAGE: Final[int]
    SIO_SITE_DROP: Final[int]
    SIO_FAIL: Final[int]
    SIO_CAP: Final[int]
    SIO_ZERO: Final[int]
    SIO_KIND_FILE: Final[int]
    SIO_KIND_PIPE: Final[int]
    SIO_KIND_TCP: Final[int]
    SIO_KIND_SOCKET: Final[int]
    SIO_KIND_TTY: Final[int]
    SIO_KIND_OTHER: Final[int]
    SIO_COPY_FILE_RANGE: Final[int]
    SIO_SENDFILE: Final[int]
    SIO_SPLICE: Final[int]
    SIO_SPLICE_PIPE: Final[int]
    SIO_READ_WRITE: Final[int]
    SIO_CLONE: Final[int]
    SIO_METHODS: Final[int]
    SIO_DONE: Final[int]
    SIO_WANT_SRC: Final[int]
    SIO_WANT_DST: Final[int]
    SIO_BUDGET: Final[int]
    SIO_INTERRUPTED: Final[int]
    SIO_ERROR: Final[int]
    SIO_TIMEOUT: Final[int]
    SIO_EVENT: Final[int]
    SIO_FORKED: Final[int]
    SIO_SIDE_NONE: Final[int]
    SIO_SIDE_SRC: Final[int]
    SIO_SIDE_DST: Final[int]
    SIO_HOLES_FILL: Final[int]
    SIO_HOLES_KEEP: Final[int]
    SIO_HOLES_MAKE: Final[int]
    SIO_REASON_NONE: Final[int]
    SIO_REASON_EOF: Final[int]
    SIO_REASON_IDLE: Final[int]
    SIO_REASON_LIMIT: Final[int]
    SIO_REASON_RESET_A: Final[int]
    SIO_REASON_RESET_B: Final[int]
    SIO_REASON_CANCELLED: Final[int]
    SIO_FATE_OPEN: Final[int]
    SIO_FATE_FAILED: Final[int]
    SIO_FATE_STALLED: Final[int]
    SIO_PHASE_NEW: Final[int]
    SIO_PHASE_HEADER: Final[int]
    SIO_PHASE_PEEK: Final[int]
    SIO_PHASE_ASKED: Final[int]
    SIO_PHASE_CONNECT: Final[int]
    SIO_PHASE_RELAY: Final[int]
    SIO_PHASE_LINGER: Final[int]
    SIO_PHASE_OVER: Final[int]
    SIO_TOLD_OVER: Final[int]
    SIO_TOLD_WRITER_B: Final[int]
    SIO_TOLD_WRITER_A: Final[int]
    SIO_TOLD_ROUTE: Final[int]
    SIO_TOLD_DOWN: Final[int]
    SIO_TOLD_UP: Final[int]
    SIO_STOPPED_NOTHING: Final[int]
    SIO_STOPPED_ACCEPTING: Final[int]
    SIO_STOPPED_ALL: Final[int]
    def sio_splice(
        self,
        seam: Pointer[struct_sio_seam],
        in_: int,
        off_in: Pointer[c_int64_t],
        out: int,
        off_out: Pointer[c_int64_t],
        len: int,
        flags: int,
        /,
    ) -> int: ...
    def sio_tee(
        self,
        seam: Pointer[struct_sio_seam],
        in_: int,
        out: int,
        len: int,
        flags: int,
        /,
    ) -> int: ...
    def sio_vmsplice(
        self,
        seam: Pointer[struct_sio_seam],
        fd: int,
        bases: Pointer[Pointer[c_void]],
        lens: Pointer[c_size_t],
        count: int,
        flags: int,
        /,
    ) -> int: ...
    def sio_sendfile(
        self,
        seam: Pointer[struct_sio_seam],
        out: int,
        in_: int,
        off_in: Pointer[c_int64_t],
        len: int,
        /,
    ) -> int: ...
    def sio_copy_file_range(
        self,
        seam: Pointer[struct_sio_seam],
        in_: int,
        off_in: Pointer[c_int64_t],
        out: int,
        off_out: Pointer[c_int64_t],
        len: int,
        /,
    ) -> int: ...
    def sio_read(
        self,
        seam: Pointer[struct_sio_seam],
        fd: int,
        off: Pointer[c_int64_t],
        buf: Address,
        len: int,
        /,
    ) -> int: ...
    def sio_recv(
        self,
        seam: Pointer[struct_sio_seam],
        fd: int,
        buf: Address,
        len: int,
        /,
    ) -> int: ...
    def sio_write(
        self,
        seam: Pointer[struct_sio_seam],
        fd: int,
        off: Pointer[c_int64_t],
        buf: Address | bytes,
        len: int,
        /,
    ) -> int: ...
    def sio_send(
        self,
        seam: Pointer[struct_sio_seam],
        fd: int,
        buf: Address | bytes,
        len: int,
        more: int,
        /,
    ) -> int: ...
    def sio_accept(
        self,
        seam: Pointer[struct_sio_seam],
        fd: int,
        from_: Pointer[struct_sockaddr_storage],
        /,
    ) -> int: ...
    def sio_socket(self, seam: Pointer[struct_sio_seam], family: int, /) -> int: ...
    def sio_connect_to(
        self,
        seam: Pointer[struct_sio_seam],
        fd: int,
        to: Pointer[struct_sockaddr_storage],
        len: int,
        /,
    ) -> int: ...
    def sio_peek(
        self,
        seam: Pointer[struct_sio_seam],
        fd: int,
        buf: Address,
        len: int,
        /,
    ) -> int: ...
    def sio_epoll_ctl(
        self,
        seam: Pointer[struct_sio_seam],
        epfd: int,
        op: int,
        fd: int,
        event: Pointer[struct_epoll_event],
        /,
    ) -> int: ...
    def sio_epoll_wait(
        self,
        seam: Pointer[struct_sio_seam],
        epfd: int,
        events: Pointer[struct_epoll_event],
        most: int,
        ms: int,
        /,
    ) -> int: ...
    def sio_unread(self, seam: Pointer[struct_sio_seam], fd: int, /) -> int: ...
    def sio_unsent(self, seam: Pointer[struct_sio_seam], fd: int, /) -> int: ...
    def sio_window_closed(self, fd: int, /) -> int: ...
    def sio_shutdown_write(self, seam: Pointer[struct_sio_seam], fd: int, /) -> int: ...
    def sio_clone(self, seam: Pointer[struct_sio_seam], in_: int, out: int, /) -> int: ...
    def sio_fallocate(self, seam: Pointer[struct_sio_seam], fd: int, len: int, /) -> int: ...
    def sio_seek(self, seam: Pointer[struct_sio_seam], fd: int, at: int, hole: int, /) -> int: ...
    def sio_truncate(self, seam: Pointer[struct_sio_seam], fd: int, size: int, /) -> int: ...
    def sio_splice_at(
        self,
        in_: int,
        off_in: int,
        out: int,
        off_out: int,
        has: int,
        len: int,
        flags: int,
        /,
    ) -> int: ...
    def sio_splice_plain(self, in_: int, out: int, len: int, flags: int, /) -> int: ...
    def sio_try_splice_plain(self, in_: int, out: int, len: int, flags: int, /) -> int: ...
    def sio_vmsplice_plain(
        self,
        fd: int,
        memory: Address | bytes,
        len: int,
        flags: int,
        /,
    ) -> int: ...
    def sio_sendfile_at(self, out: int, in_: int, off_in: int, has: int, len: int, /) -> int: ...
    def sio_pipe(
        self,
        seam: Pointer[struct_sio_seam],
        reader: Pointer[c_int],
        writer: Pointer[c_int],
        capacity: int,
        /,
    ) -> int: ...
    def sio_pipe_resize(self, fd: int, capacity: int, /) -> int: ...
    def sio_pipe_close(self, reader: Pointer[c_int], writer: Pointer[c_int], /) -> None: ...
    def sio_owned_open(
        self,
        o: Pointer[struct_sio_owned],
        folder: int,
        path: Pointer[Byte] | bytes,
        flags: int,
        mode: int,
        /,
    ) -> int: ...
    def sio_owned_dup(self, o: Pointer[struct_sio_owned], fd: int, /) -> int: ...
    def sio_owned_memfd(
        self,
        o: Pointer[struct_sio_owned],
        name: Pointer[Byte] | bytes,
        flags: int,
        /,
    ) -> int: ...
    def sio_owned_pipe(
        self,
        reader: Pointer[struct_sio_owned],
        writer: Pointer[struct_sio_owned],
        capacity: int,
        /,
    ) -> int: ...
    def sio_owned_close(self, o: Pointer[struct_sio_owned], /) -> None: ...
    def sio_socket_free(self, fd: int, tcp: int, /) -> int: ...
    def sio_room_for(self, free: int, slots: int, /) -> int: ...
    def sio_packet_cost(self, slots: int, /) -> int: ...
    def sio_about(self, fd: int, about: Pointer[struct_sio_about], /) -> None: ...
    def sio_statx_attributes(self, fd: int, /) -> int: ...
    def sio_transfer_open(self, t: Pointer[struct_sio_transfer], src: int, dst: int, /) -> int: ...
    def sio_transfer_share(
        self,
        t: Pointer[struct_sio_transfer],
        src: int,
        dst: int,
        /,
    ) -> None: ...
    def sio_transfer_prefix(
        self,
        t: Pointer[struct_sio_transfer],
        data: Address | bytes,
        len: int,
        /,
    ) -> int: ...
    def sio_transfer_close(self, t: Pointer[struct_sio_transfer], /) -> None: ...
    def sio_transfer_moved(self, t: Pointer[struct_sio_transfer], /) -> int: ...
    def sio_transfer_moved_by(self, t: Pointer[struct_sio_transfer], method: int, /) -> int: ...
    def sio_transfer_held(self, t: Pointer[struct_sio_transfer], /) -> int: ...
    def sio_transfer_take_held(
        self,
        t: Pointer[struct_sio_transfer],
        buf: Address,
        len: int,
        /,
    ) -> int: ...
    def sio_transfer_refresh(self, t: Pointer[struct_sio_transfer], /) -> None: ...
    def sio_transfer_step(self, t: Pointer[struct_sio_transfer], bytes: int, ns: int, /) -> int: ...
    def sio_transfer_try(self, t: Pointer[struct_sio_transfer], ns: int, /) -> int: ...
    def sio_transfer_run(
        self,
        t: Pointer[struct_sio_transfer],
        ns: int,
        idle_ns: int,
        /,
    ) -> int: ...
    def sio_transfer_wakeable(self, t: Pointer[struct_sio_transfer], /) -> int: ...
    def sio_transfer_wake(self, t: Pointer[struct_sio_transfer], /) -> None: ...
    def sio_transfer_heard(self, t: Pointer[struct_sio_transfer], /) -> None: ...
    def sio_transfer_read(
        self,
        t: Pointer[struct_sio_transfer],
        buf: Address,
        len: int,
        ns: int,
        idle_ns: int,
        /,
    ) -> int: ...
    def sio_relay_run(self, r: Pointer[struct_sio_relay], ns: int, idle_ns: int, /) -> int: ...
    def sio_fanout_open(self, f: Pointer[struct_sio_fanout], /) -> int: ...
    def sio_fanout_run(self, f: Pointer[struct_sio_fanout], ns: int, idle_ns: int, /) -> int: ...
    def sio_fanout_take(
        self,
        f: Pointer[struct_sio_fanout],
        i: int,
        buf: Address,
        len: int,
        /,
    ) -> int: ...
    def sio_fanout_detach(self, f: Pointer[struct_sio_fanout], i: int, /) -> None: ...
    def sio_fanout_rest(self, f: Pointer[struct_sio_fanout], /) -> int: ...
    def sio_fanout_take_rest(
        self,
        f: Pointer[struct_sio_fanout],
        buf: Address,
        len: int,
        /,
    ) -> int: ...
    def sio_fanout_close(self, f: Pointer[struct_sio_fanout], /) -> None: ...
    def sio_news_new(self, /) -> struct_sio_news_ptr: ...
    def sio_news_free(self, news: Pointer[struct_sio_news], /) -> None: ...
    def sio_news_fd(self, news: Pointer[struct_sio_news], /) -> int: ...
    def sio_news_wait(self, news: Pointer[struct_sio_news], ms: int, /) -> int: ...
    def sio_news_wake(self, news: Pointer[struct_sio_news], /) -> None: ...
    def sio_news_take(
        self,
        news: Pointer[struct_sio_news],
        told: Pointer[c_int32_t],
        /,
    ) -> struct_sio_link_ptr: ...
    def sio_modes_new(self, /) -> struct_sio_modes_ptr: ...
    def sio_modes_reset(self, modes: Pointer[struct_sio_modes], /) -> None: ...
    def sio_modes_lend(
        self,
        modes: Pointer[struct_sio_modes],
        l: Pointer[struct_sio_link],
        /,
    ) -> None: ...
    def sio_modes_give_back(self, l: Pointer[struct_sio_link], /) -> None: ...
    def sio_engine_new(
        self,
        pipes: int,
        err: Pointer[c_int32_t],
        call: Pointer[Items[c_char]],
        /,
    ) -> struct_sio_engine_ptr: ...
    def sio_engine_trouble(
        self,
        e: Pointer[struct_sio_engine],
        trouble: Pointer[struct_sio_trouble],
        /,
    ) -> None: ...
    def sio_engine_start(self, e: Pointer[struct_sio_engine], /) -> int: ...
    def sio_engine_stop(self, e: Pointer[struct_sio_engine], /) -> None: ...
    def sio_engine_free(self, e: Pointer[struct_sio_engine], /) -> None: ...
    def sio_engine_abandon(self, e: Pointer[struct_sio_engine], /) -> None: ...
    def sio_engine_test(
        self,
        e: Pointer[struct_sio_engine],
        seam: Pointer[struct_sio_seam],
        stall_ns: int,
        /,
    ) -> None: ...
    def sio_engine_skip(self, e: Pointer[struct_sio_engine], ns: int, /) -> None: ...
    def sio_engine_submit(
        self,
        e: Pointer[struct_sio_engine],
        link: Pointer[struct_sio_link],
        /,
    ) -> int: ...
    def sio_engine_cancel(self, link: Pointer[struct_sio_link], /) -> int: ...
    def sio_engine_cut(self, link: Pointer[struct_sio_link], /) -> None: ...
    def sio_engine_counts(
        self,
        e: Pointer[struct_sio_engine],
        counts: Pointer[struct_sio_counts],
        /,
    ) -> None: ...
    def sio_users_new(self, /) -> Items[c_int64_t]: ...
    def sio_users_count(
        self,
        users: Pointer[c_int64_t] | list[int] | tuple[int, ...],
        /,
    ) -> int: ...
    def sio_users_drop(self, users: Pointer[c_int64_t], /) -> None: ...
    def sio_upstreams_new(
        self,
        count: int,
        first: int,
        users: Pointer[c_int64_t],
        /,
    ) -> struct_sio_upstreams_ptr: ...
    def sio_upstreams_add(
        self,
        ups: Pointer[struct_sio_upstreams],
        number: int,
        address: Address | bytes,
        len: int,
        /,
    ) -> int: ...
    def sio_upstreams_free(self, ups: Pointer[struct_sio_upstreams], /) -> None: ...
    def sio_tune(self, fd: int, keepalive: int, /) -> None: ...
    def sio_tune_new(self, fd: int, keepalive: int, /) -> None: ...
    def sio_engine_serve(
        self,
        e: Pointer[struct_sio_engine],
        setup: Pointer[struct_sio_gate_setup],
        listeners: Pointer[c_int32_t] | list[int] | tuple[int, ...],
        count: int,
        /,
    ) -> int: ...
    def sio_engine_upstreams(
        self,
        e: Pointer[struct_sio_engine],
        ups: Pointer[struct_sio_upstreams],
        /,
    ) -> int: ...
    def sio_engine_close_gate(self, e: Pointer[struct_sio_engine], /) -> None: ...
    def sio_link_route(
        self,
        link: Pointer[struct_sio_link],
        ups: Pointer[struct_sio_upstreams],
        more: int,
        /,
    ) -> None: ...
    def sio_link_release(self, link: Pointer[struct_sio_link], /) -> None: ...
    def sio_proxy_read(
        self,
        data: Pointer[Byte] | bytes,
        len: int,
        client: Pointer[struct_sio_peer],
        server: Pointer[struct_sio_peer],
        /,
    ) -> int: ...
    def sio_proxy_write(
        self,
        version: int,
        client: Pointer[struct_sio_peer],
        server: Pointer[struct_sio_peer],
        out: Pointer[Byte],
        /,
    ) -> int: ...
    def sio_gift_new(self, /) -> struct_sio_gift_ptr: ...
    def sio_gift_free(self, g: Pointer[struct_sio_gift], /) -> None: ...
    def sio_gift_write(
        self,
        seam: Pointer[struct_sio_seam],
        g: Pointer[struct_sio_gift],
        fd: int,
        data: Pointer[Byte] | bytes,
        len: int,
        flags: int,
        small: int,
        budget_ns: int,
        count: Pointer[c_int64_t],
        /,
    ) -> int: ...
    def sio_gift_put(
        self,
        seam: Pointer[struct_sio_seam],
        fd: int,
        data: Pointer[Byte] | bytes,
        len: int,
        budget_ns: int,
        count: Pointer[c_int64_t],
        /,
    ) -> int: ...
    def sio_gift_maps(self, seam: Pointer[struct_sio_seam], /) -> int: ...

# -- what cffi makes ------------------------------------------------------------------------------

class FFI(_FFI):
    @overload
    def new(self, cdecl: Literal["char *"], init: bytes = ..., /) -> Items[c_char]: ...
    @overload
    def new(
        self,
        cdecl: Literal["char[]"],
        init: int | Array[c_char] | Sequence[bytes] | bytes,
        /,
    ) -> Array[c_char]: ...
    @overload
    def new(
        self,
        cdecl: Literal["char **"],
        init: Pointer[Byte] = ...,
        /,
    ) -> Items[Items[c_char]]: ...
    @overload
    def new(
        self,
        cdecl: Literal["char *[]"],
        init: int | Array[Items[c_char]] | Sequence[Pointer[Byte]],
        /,
    ) -> Array[Items[c_char]]: ...
    @overload
    def new(self, cdecl: Literal["int *"], init: int = ..., /) -> Items[c_int]: ...
    @overload
    def new(
        self,
        cdecl: Literal["int[]"],
        init: int | Array[c_int] | Sequence[int],
        /,
    ) -> Array[c_int]: ...
    @overload
    def new(self, cdecl: Literal["int32_t *"], init: int = ..., /) -> Items[c_int32_t]: ...
    @overload
    def new(
        self,
        cdecl: Literal["int32_t[]"],
        init: int | Array[c_int32_t] | Sequence[int],
        /,
    ) -> Array[c_int32_t]: ...
    @overload
    def new(self, cdecl: Literal["int64_t *"], init: int = ..., /) -> Items[c_int64_t]: ...
    @overload
    def new(
        self,
        cdecl: Literal["int64_t[]"],
        init: int | Array[c_int64_t] | Sequence[int],
        /,
    ) -> Array[c_int64_t]: ...
    @overload
    def new(self, cdecl: Literal["size_t *"], init: int = ..., /) -> Items[c_size_t]: ...
    @overload
    def new(
        self,
        cdecl: Literal["size_t[]"],
        init: int | Array[c_size_t] | Sequence[int],
        /,
    ) -> Array[c_size_t]: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_about *"],
        init: struct_sio_about | Fields = ...,
        /,
    ) -> struct_sio_about_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_about[]"],
        init: int | Array[struct_sio_about] | Sequence[struct_sio_about | Fields],
        /,
    ) -> Array[struct_sio_about]: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_counts *"],
        init: struct_sio_counts | Fields = ...,
        /,
    ) -> struct_sio_counts_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_counts[]"],
        init: int | Array[struct_sio_counts] | Sequence[struct_sio_counts | Fields],
        /,
    ) -> Array[struct_sio_counts]: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_fanout *"],
        init: struct_sio_fanout | Fields = ...,
        /,
    ) -> struct_sio_fanout_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_fanout[]"],
        init: int | Array[struct_sio_fanout] | Sequence[struct_sio_fanout | Fields],
        /,
    ) -> Array[struct_sio_fanout]: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_gate_setup *"],
        init: struct_sio_gate_setup | Fields = ...,
        /,
    ) -> struct_sio_gate_setup_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_gate_setup[]"],
        init: int | Array[struct_sio_gate_setup] | Sequence[struct_sio_gate_setup | Fields],
        /,
    ) -> Array[struct_sio_gate_setup]: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_identity *"],
        init: struct_sio_identity | Fields = ...,
        /,
    ) -> struct_sio_identity_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_identity[]"],
        init: int | Array[struct_sio_identity] | Sequence[struct_sio_identity | Fields],
        /,
    ) -> Array[struct_sio_identity]: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_link *"],
        init: struct_sio_link | Fields = ...,
        /,
    ) -> struct_sio_link_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_link[]"],
        init: int | Array[struct_sio_link] | Sequence[struct_sio_link | Fields],
        /,
    ) -> Array[struct_sio_link]: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_loan *"],
        init: struct_sio_loan | Fields = ...,
        /,
    ) -> struct_sio_loan_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_loan[]"],
        init: int | Array[struct_sio_loan] | Sequence[struct_sio_loan | Fields],
        /,
    ) -> Array[struct_sio_loan]: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_log_row *"],
        init: struct_sio_log_row | Fields = ...,
        /,
    ) -> struct_sio_log_row_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_log_row[]"],
        init: int | Array[struct_sio_log_row] | Sequence[struct_sio_log_row | Fields],
        /,
    ) -> Array[struct_sio_log_row]: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_network *"],
        init: struct_sio_network | Fields = ...,
        /,
    ) -> struct_sio_network_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_network[]"],
        init: int | Array[struct_sio_network] | Sequence[struct_sio_network | Fields],
        /,
    ) -> Array[struct_sio_network]: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_owned *"],
        init: struct_sio_owned | Fields = ...,
        /,
    ) -> struct_sio_owned_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_owned[]"],
        init: int | Array[struct_sio_owned] | Sequence[struct_sio_owned | Fields],
        /,
    ) -> Array[struct_sio_owned]: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_part *"],
        init: struct_sio_part | Fields = ...,
        /,
    ) -> struct_sio_part_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_part[]"],
        init: int | Array[struct_sio_part] | Sequence[struct_sio_part | Fields],
        /,
    ) -> Array[struct_sio_part]: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_peer *"],
        init: struct_sio_peer | Fields = ...,
        /,
    ) -> struct_sio_peer_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_peer[]"],
        init: int | Array[struct_sio_peer] | Sequence[struct_sio_peer | Fields],
        /,
    ) -> Array[struct_sio_peer]: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_refusal *"],
        init: struct_sio_refusal | Fields = ...,
        /,
    ) -> struct_sio_refusal_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_refusal[]"],
        init: int | Array[struct_sio_refusal] | Sequence[struct_sio_refusal | Fields],
        /,
    ) -> Array[struct_sio_refusal]: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_relay *"],
        init: struct_sio_relay | Fields = ...,
        /,
    ) -> struct_sio_relay_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_relay[]"],
        init: int | Array[struct_sio_relay] | Sequence[struct_sio_relay | Fields],
        /,
    ) -> Array[struct_sio_relay]: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_rule *"],
        init: struct_sio_rule | Fields = ...,
        /,
    ) -> struct_sio_rule_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_rule[]"],
        init: int | Array[struct_sio_rule] | Sequence[struct_sio_rule | Fields],
        /,
    ) -> Array[struct_sio_rule]: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_seam *"],
        init: struct_sio_seam | Fields = ...,
        /,
    ) -> struct_sio_seam_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_seam[]"],
        init: int | Array[struct_sio_seam] | Sequence[struct_sio_seam | Fields],
        /,
    ) -> Array[struct_sio_seam]: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_sink *"],
        init: struct_sio_sink | Fields = ...,
        /,
    ) -> struct_sio_sink_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_sink[]"],
        init: int | Array[struct_sio_sink] | Sequence[struct_sio_sink | Fields],
        /,
    ) -> Array[struct_sio_sink]: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_timer *"],
        init: struct_sio_timer | Fields = ...,
        /,
    ) -> struct_sio_timer_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_timer[]"],
        init: int | Array[struct_sio_timer] | Sequence[struct_sio_timer | Fields],
        /,
    ) -> Array[struct_sio_timer]: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_transfer *"],
        init: struct_sio_transfer | Fields = ...,
        /,
    ) -> struct_sio_transfer_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_transfer[]"],
        init: int | Array[struct_sio_transfer] | Sequence[struct_sio_transfer | Fields],
        /,
    ) -> Array[struct_sio_transfer]: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_trouble *"],
        init: struct_sio_trouble | Fields = ...,
        /,
    ) -> struct_sio_trouble_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_trouble[]"],
        init: int | Array[struct_sio_trouble] | Sequence[struct_sio_trouble | Fields],
        /,
    ) -> Array[struct_sio_trouble]: ...
    @overload
    def new(self, cdecl: Literal["uint8_t *"], init: int = ..., /) -> Items[c_uint8_t]: ...
    @overload
    def new(
        self,
        cdecl: Literal["uint8_t[]"],
        init: int | Array[c_uint8_t] | Sequence[int] | bytes,
        /,
    ) -> Array[c_uint8_t]: ...
    @overload
    def new(
        self,
        cdecl: Literal["unsigned char *"],
        init: int = ...,
        /,
    ) -> Items[c_unsigned_char]: ...
    @overload
    def new(
        self,
        cdecl: Literal["unsigned char[]"],
        init: int | Array[c_unsigned_char] | Sequence[int] | bytes,
        /,
    ) -> Array[c_unsigned_char]: ...
    @overload
    def new(self, cdecl: Literal["void **"], init: Address = ..., /) -> Items[Pointer[c_void]]: ...
    @overload
    def new(
        self,
        cdecl: Literal["void *[]"],
        init: int | Array[Pointer[c_void]] | Sequence[Address],
        /,
    ) -> Array[Pointer[c_void]]: ...
    @overload
    def cast(self, cdecl: Literal["char *"], value: CData | int, /) -> Items[c_char]: ...
    @overload
    def cast(self, cdecl: Literal["char **"], value: CData | int, /) -> Items[Items[c_char]]: ...
    @overload
    def cast(self, cdecl: Literal["int *"], value: CData | int, /) -> Items[c_int]: ...
    @overload
    def cast(self, cdecl: Literal["int32_t *"], value: CData | int, /) -> Items[c_int32_t]: ...
    @overload
    def cast(self, cdecl: Literal["int64_t *"], value: CData | int, /) -> Items[c_int64_t]: ...
    @overload
    def cast(self, cdecl: Literal["size_t *"], value: CData | int, /) -> Items[c_size_t]: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct epoll_event *"],
        value: CData | int,
        /,
    ) -> struct_epoll_event_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct pollfd *"],
        value: CData | int,
        /,
    ) -> struct_pollfd_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_about *"],
        value: CData | int,
        /,
    ) -> struct_sio_about_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_conn_ops *"],
        value: CData | int,
        /,
    ) -> struct_sio_conn_ops_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_counts *"],
        value: CData | int,
        /,
    ) -> struct_sio_counts_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_engine *"],
        value: CData | int,
        /,
    ) -> struct_sio_engine_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_fanout *"],
        value: CData | int,
        /,
    ) -> struct_sio_fanout_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_gate_setup *"],
        value: CData | int,
        /,
    ) -> struct_sio_gate_setup_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_gift *"],
        value: CData | int,
        /,
    ) -> struct_sio_gift_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_identity *"],
        value: CData | int,
        /,
    ) -> struct_sio_identity_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_lender *"],
        value: CData | int,
        /,
    ) -> struct_sio_lender_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_link *"],
        value: CData | int,
        /,
    ) -> struct_sio_link_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_loan *"],
        value: CData | int,
        /,
    ) -> struct_sio_loan_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_log_row *"],
        value: CData | int,
        /,
    ) -> struct_sio_log_row_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_modes *"],
        value: CData | int,
        /,
    ) -> struct_sio_modes_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_network *"],
        value: CData | int,
        /,
    ) -> struct_sio_network_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_news *"],
        value: CData | int,
        /,
    ) -> struct_sio_news_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_owned *"],
        value: CData | int,
        /,
    ) -> struct_sio_owned_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_part *"],
        value: CData | int,
        /,
    ) -> struct_sio_part_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_peer *"],
        value: CData | int,
        /,
    ) -> struct_sio_peer_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_refusal *"],
        value: CData | int,
        /,
    ) -> struct_sio_refusal_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_relay *"],
        value: CData | int,
        /,
    ) -> struct_sio_relay_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_rule *"],
        value: CData | int,
        /,
    ) -> struct_sio_rule_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_seam *"],
        value: CData | int,
        /,
    ) -> struct_sio_seam_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_sink *"],
        value: CData | int,
        /,
    ) -> struct_sio_sink_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_timer *"],
        value: CData | int,
        /,
    ) -> struct_sio_timer_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_transfer *"],
        value: CData | int,
        /,
    ) -> struct_sio_transfer_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_trouble *"],
        value: CData | int,
        /,
    ) -> struct_sio_trouble_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_upstreams *"],
        value: CData | int,
        /,
    ) -> struct_sio_upstreams_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sockaddr_storage *"],
        value: CData | int,
        /,
    ) -> struct_sockaddr_storage_ptr: ...
    @overload
    def cast(self, cdecl: Literal["uint8_t *"], value: CData | int, /) -> Items[c_uint8_t]: ...
    @overload
    def cast(
        self,
        cdecl: Literal["unsigned char *"],
        value: CData | int,
        /,
    ) -> Items[c_unsigned_char]: ...
    @overload
    def cast(self, cdecl: Literal["void **"], value: CData | int, /) -> Items[Pointer[c_void]]: ...
    @overload
    def cast(self, cdecl: Literal["void *"], value: CData | int, /) -> Pointer[c_void]: ...
    @overload
    def cast(self, cdecl: Literal["intptr_t", "uintptr_t"], value: CData | int, /) -> Integer: ...
    @overload
    def from_buffer(self, memory: Buffer, /) -> Array[c_char]: ...
    @overload
    def from_buffer(
        self,
        cdecl: Literal["char[]"],
        memory: Buffer,
        require_writable: bool = ...,
        /,
    ) -> Array[c_char]: ...
    @overload
    def from_buffer(
        self,
        cdecl: Literal["int[]"],
        memory: Buffer,
        require_writable: bool = ...,
        /,
    ) -> Array[c_int]: ...
    @overload
    def from_buffer(
        self,
        cdecl: Literal["int32_t[]"],
        memory: Buffer,
        require_writable: bool = ...,
        /,
    ) -> Array[c_int32_t]: ...
    @overload
    def from_buffer(
        self,
        cdecl: Literal["int64_t[]"],
        memory: Buffer,
        require_writable: bool = ...,
        /,
    ) -> Array[c_int64_t]: ...
    @overload
    def from_buffer(
        self,
        cdecl: Literal["size_t[]"],
        memory: Buffer,
        require_writable: bool = ...,
        /,
    ) -> Array[c_size_t]: ...
    @overload
    def from_buffer(
        self,
        cdecl: Literal["uint8_t[]"],
        memory: Buffer,
        require_writable: bool = ...,
        /,
    ) -> Array[c_uint8_t]: ...
    @overload
    def from_buffer(
        self,
        cdecl: Literal["unsigned char[]"],
        memory: Buffer,
        require_writable: bool = ...,
        /,
    ) -> Array[c_unsigned_char]: ...
    @overload
    def typeof(
        self,
        cdecl: Literal[
            "struct sio_about",
            "struct sio_counts",
            "struct sio_fanout",
            "struct sio_gate_setup",
            "struct sio_identity",
            "struct sio_link",
            "struct sio_loan",
            "struct sio_log_row",
            "struct sio_network",
            "struct sio_owned",
            "struct sio_part",
            "struct sio_peer",
            "struct sio_refusal",
            "struct sio_relay",
            "struct sio_rule",
            "struct sio_seam",
            "struct sio_sink",
            "struct sio_timer",
            "struct sio_transfer",
            "struct sio_trouble",
        ],
        /,
    ) -> StructType: ...
    @overload
    def typeof(self, cdecl: CData | str, /) -> CType: ...

ffi: Final[FFI]
lib: Final[Lib]
