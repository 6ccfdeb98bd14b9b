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
    def unpack(self, cdata: Array[c_unsigned_char], length: int) -> list[int]: ...

# -- of csrc/api.h: the types ---------------------------------------------------------------------

class c_int32_t(Scalar[int]): ...
class c_int64_t(Scalar[int]): ...
class c_size_t(Scalar[int]): ...
class c_uint8_t(Scalar[int]): ...

class _struct_sio_act:
    faults: Member[struct_sio_faults_ptr, Pointer[struct_sio_faults]]
    spares: Member[struct_sio_spare_pipes_ptr, Pointer[struct_sio_spare_pipes]]
    known: int
    method: int
    moved: int
    from_memory: int
    held: int
    held_at: int
    error: Member[struct_sio_error, struct_sio_error | Fields]
    looked: int
    src: Member[struct_sio_identity, struct_sio_identity | Fields]
    dst: Member[struct_sio_identity, struct_sio_identity | Fields]
    off_dst: int
    rest: Member[struct_sio_transfer_ptr, Pointer[struct_sio_transfer]]
    state: int
    whole: int
    parts: Member[
        Array[struct_sio_segment],
        Array[struct_sio_segment] | Sequence[struct_sio_segment | Fields],
    ]
    buf: Member[Array[c_unsigned_char], Array[c_unsigned_char] | Sequence[int] | bytes]

class struct_sio_act(_struct_sio_act, Struct[struct_sio_act_ptr]): ...
class struct_sio_act_ptr(_struct_sio_act, Items[struct_sio_act]): ...

class struct_sio_completions(Opaque): ...
class struct_sio_completions_ptr(Pointer[struct_sio_completions]): ...

class struct_sio_conn(Opaque): ...
class struct_sio_conn_ptr(Pointer[struct_sio_conn]): ...

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

class _struct_sio_error:
    err: int
    side: int
    call: int
    sticky: int

class struct_sio_error(_struct_sio_error, Struct[struct_sio_error_ptr]): ...
class struct_sio_error_ptr(_struct_sio_error, Items[struct_sio_error]): ...

class _struct_sio_fan_act:
    faults: Member[struct_sio_faults_ptr, Pointer[struct_sio_faults]]
    sink_count: int
    taken: int
    held: int
    error: Member[struct_sio_error, struct_sio_error | Fields]
    src: Member[struct_sio_identity, struct_sio_identity | Fields]
    how: Member[Array[c_unsigned_char], Array[c_unsigned_char] | Sequence[int] | bytes]
    each: Member[
        Array[struct_sio_fan_sink],
        Array[struct_sio_fan_sink] | Sequence[struct_sio_fan_sink | Fields],
    ]
    buf: Member[Array[c_unsigned_char], Array[c_unsigned_char] | Sequence[int] | bytes]

class struct_sio_fan_act(_struct_sio_fan_act, Struct[struct_sio_fan_act_ptr]): ...
class struct_sio_fan_act_ptr(_struct_sio_fan_act, Items[struct_sio_fan_act]): ...

class _struct_sio_fan_sink:
    # is: Member[struct_sio_identity, struct_sio_identity | Fields]
    moved: int
    err: int
    fd: int
    flags: int
    mode: int

class struct_sio_fan_sink(_struct_sio_fan_sink, Struct[struct_sio_fan_sink_ptr]): ...
class struct_sio_fan_sink_ptr(_struct_sio_fan_sink, Items[struct_sio_fan_sink]): ...

class struct_sio_fanout(Opaque): ...
class struct_sio_fanout_ptr(Pointer[struct_sio_fanout]): ...

class _struct_sio_fanout_config:
    # in: Member[struct_sio_transfer_ptr, Pointer[struct_sio_transfer]]
    out: Member[Items[struct_sio_transfer_ptr], Pointer[struct_sio_transfer_ptr]]
    sink_count: int
    copying: int
    stall_ns: int

class struct_sio_fanout_config(_struct_sio_fanout_config, Struct[struct_sio_fanout_config_ptr]): ...
class struct_sio_fanout_config_ptr(_struct_sio_fanout_config, Items[struct_sio_fanout_config]): ...

class _struct_sio_fanout_report:
    progress: int
    base: int
    attached: int
    last: int
    refused: int
    refused_call: int
    waiting: int
    woken: int

class struct_sio_fanout_report(_struct_sio_fanout_report, Struct[struct_sio_fanout_report_ptr]): ...
class struct_sio_fanout_report_ptr(_struct_sio_fanout_report, Items[struct_sio_fanout_report]): ...

class struct_sio_faults(Opaque): ...
class struct_sio_faults_ptr(Pointer[struct_sio_faults]): ...

class _struct_sio_fdinfo:
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

class struct_sio_fdinfo(_struct_sio_fdinfo, Struct[struct_sio_fdinfo_ptr]): ...
class struct_sio_fdinfo_ptr(_struct_sio_fdinfo, Items[struct_sio_fdinfo]): ...

class _struct_sio_file_copy:
    faults: Member[struct_sio_faults_ptr, Pointer[struct_sio_faults]]
    refused: int
    folder: Member[Array[c_char], Array[c_char] | Sequence[bytes] | bytes]
    buf: Member[Array[c_unsigned_char], Array[c_unsigned_char] | Sequence[int] | bytes]

class struct_sio_file_copy(_struct_sio_file_copy, Struct[struct_sio_file_copy_ptr]): ...
class struct_sio_file_copy_ptr(_struct_sio_file_copy, Items[struct_sio_file_copy]): ...

class _struct_sio_file_pair:
    dst_kind: int
    may_share: int
    sees_zeros: int
    in_one_call: int
    src_filesystem: int
    dst_filesystem: int
    size: int

class struct_sio_file_pair(_struct_sio_file_pair, Struct[struct_sio_file_pair_ptr]): ...
class struct_sio_file_pair_ptr(_struct_sio_file_pair, Items[struct_sio_file_pair]): ...

class _struct_sio_identity:
    dev: int
    ino: int

class struct_sio_identity(_struct_sio_identity, Struct[struct_sio_identity_ptr]): ...
class struct_sio_identity_ptr(_struct_sio_identity, Items[struct_sio_identity]): ...

class _struct_sio_job_config:
    relay: Member[struct_sio_relay_config, struct_sio_relay_config | Fields]
    completions: Member[struct_sio_completions_ptr, Pointer[struct_sio_completions]]
    idle_ns: int
    fds: Member[Array[c_int32_t], Array[c_int32_t] | Sequence[int]]

class struct_sio_job_config(_struct_sio_job_config, Struct[struct_sio_job_config_ptr]): ...
class struct_sio_job_config_ptr(_struct_sio_job_config, Items[struct_sio_job_config]): ...

class _struct_sio_job_report:
    err: int
    failed: int
    reason: int
    is_cancelled: int
    ns: int

class struct_sio_job_report(_struct_sio_job_report, Struct[struct_sio_job_report_ptr]): ...
class struct_sio_job_report_ptr(_struct_sio_job_report, Items[struct_sio_job_report]): ...

class struct_sio_modes(Opaque): ...
class struct_sio_modes_ptr(Pointer[struct_sio_modes]): ...

class _struct_sio_network:
    ip: Member[Array[c_uint8_t], Array[c_uint8_t] | Sequence[int] | bytes]
    bits: int

class struct_sio_network(_struct_sio_network, Struct[struct_sio_network_ptr]): ...
class struct_sio_network_ptr(_struct_sio_network, Items[struct_sio_network]): ...

class _struct_sio_owned:
    fd: int

class struct_sio_owned(_struct_sio_owned, Struct[struct_sio_owned_ptr]): ...
class struct_sio_owned_ptr(_struct_sio_owned, Items[struct_sio_owned]): ...

class struct_sio_page_gift(Opaque): ...
class struct_sio_page_gift_ptr(Pointer[struct_sio_page_gift]): ...

class _struct_sio_pair:
    src_kind: int
    dst_kind: int
    src_filesystem: int
    dst_filesystem: int
    has_dst_offset: int
    cached_only: int
    left: int

class struct_sio_pair(_struct_sio_pair, Struct[struct_sio_pair_ptr]): ...
class struct_sio_pair_ptr(_struct_sio_pair, Items[struct_sio_pair]): ...

class _struct_sio_peer:
    ip: Member[Array[c_uint8_t], Array[c_uint8_t] | Sequence[int] | bytes]
    port: int
    family: int

class struct_sio_peer(_struct_sio_peer, Struct[struct_sio_peer_ptr]): ...
class struct_sio_peer_ptr(_struct_sio_peer, Items[struct_sio_peer]): ...

class _struct_sio_proxy_config:
    completions: Member[struct_sio_completions_ptr, Pointer[struct_sio_completions]]
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

class struct_sio_proxy_config(_struct_sio_proxy_config, Struct[struct_sio_proxy_config_ptr]): ...
class struct_sio_proxy_config_ptr(_struct_sio_proxy_config, Items[struct_sio_proxy_config]): ...

class _struct_sio_proxy_report:
    client: Member[struct_sio_peer, struct_sio_peer | Fields]
    upstream: int
    event_upstream: int
    event_err: int
    err: int
    reason: int
    tries: int
    is_connected: int
    peeked_len: int
    peeked: Member[Items[c_unsigned_char], Pointer[Byte]]
    a_to_b: int
    b_to_a: int
    ns: int

class struct_sio_proxy_report(_struct_sio_proxy_report, Struct[struct_sio_proxy_report_ptr]): ...
class struct_sio_proxy_report_ptr(_struct_sio_proxy_report, Items[struct_sio_proxy_report]): ...

class _struct_sio_refusal:
    method: int
    err: int
    call: int
    phase: int

class struct_sio_refusal(_struct_sio_refusal, Struct[struct_sio_refusal_ptr]): ...
class struct_sio_refusal_ptr(_struct_sio_refusal, Items[struct_sio_refusal]): ...

class struct_sio_relay(Opaque): ...
class struct_sio_relay_ptr(Pointer[struct_sio_relay]): ...

class _struct_sio_relay_act:
    faults: Member[struct_sio_faults_ptr, Pointer[struct_sio_faults]]
    moved: Member[Array[c_int64_t], Array[c_int64_t] | Sequence[int]]
    held: Member[Array[c_int64_t], Array[c_int64_t] | Sequence[int]]
    held_at: Member[Array[c_int64_t], Array[c_int64_t] | Sequence[int]]
    error: Member[
        Array[struct_sio_error],
        Array[struct_sio_error] | Sequence[struct_sio_error | Fields],
    ]
    a: Member[struct_sio_identity, struct_sio_identity | Fields]
    b: Member[struct_sio_identity, struct_sio_identity | Fields]
    buf: Member[Array[c_unsigned_char], Array[c_unsigned_char] | Sequence[int] | bytes]

class struct_sio_relay_act(_struct_sio_relay_act, Struct[struct_sio_relay_act_ptr]): ...
class struct_sio_relay_act_ptr(_struct_sio_relay_act, Items[struct_sio_relay_act]): ...

class _struct_sio_relay_config:
    ab: Member[struct_sio_transfer_ptr, Pointer[struct_sio_transfer]]
    ba: Member[struct_sio_transfer_ptr, Pointer[struct_sio_transfer]]
    limit: int
    stop_when_gone: int
    stop_at_eof: int

class struct_sio_relay_config(_struct_sio_relay_config, Struct[struct_sio_relay_config_ptr]): ...
class struct_sio_relay_config_ptr(_struct_sio_relay_config, Items[struct_sio_relay_config]): ...

class _struct_sio_segment:
    memory: Member[Items[c_unsigned_char], Pointer[Byte]]
    offset: int
    len: int

class struct_sio_segment(_struct_sio_segment, Struct[struct_sio_segment_ptr]): ...
class struct_sio_segment_ptr(_struct_sio_segment, Items[struct_sio_segment]): ...

class struct_sio_spare_pipes(Opaque): ...
class struct_sio_spare_pipes_ptr(Pointer[struct_sio_spare_pipes]): ...

class struct_sio_transfer(Opaque): ...
class struct_sio_transfer_ptr(Pointer[struct_sio_transfer]): ...

class _struct_sio_transfer_config:
    faults: Member[struct_sio_faults_ptr, Pointer[struct_sio_faults]]
    pid: int
    src: int
    dst: int
    src_kind: int
    dst_kind: int
    src_is: Member[struct_sio_identity, struct_sio_identity | Fields]
    dst_is: Member[struct_sio_identity, struct_sio_identity | Fields]
    nonblock: int
    src_tls: int
    methods: Member[Array[c_int32_t], Array[c_int32_t] | Sequence[int]]
    method_count: int
    adaptive: int
    small: int
    level_poll: int
    left: int
    src_offset: int
    dst_offset: int
    pipe_size: int
    spares: Member[struct_sio_spare_pipes_ptr, Pointer[struct_sio_spare_pipes]]
    segments: Member[struct_sio_segment_ptr, Pointer[struct_sio_segment]]
    segment_count: int
    holes: int
    extent: int
    reserve: int

class struct_sio_transfer_config(_struct_sio_transfer_config, Struct[
    struct_sio_transfer_config_ptr,
]): ...
class struct_sio_transfer_config_ptr(_struct_sio_transfer_config, Items[
    struct_sio_transfer_config,
]): ...

class _struct_sio_transfer_report:
    moved: int
    moved_by: Member[Array[c_int64_t], Array[c_int64_t] | Sequence[int]]
    from_memory: int
    method: int
    refusal_count: int

class struct_sio_transfer_report(_struct_sio_transfer_report, Struct[
    struct_sio_transfer_report_ptr,
]): ...
class struct_sio_transfer_report_ptr(_struct_sio_transfer_report, Items[
    struct_sio_transfer_report,
]): ...

class _struct_sio_trouble:
    err: int
    call: int
    stopped: int
    times: int

class struct_sio_trouble(_struct_sio_trouble, Struct[struct_sio_trouble_ptr]): ...
class struct_sio_trouble_ptr(_struct_sio_trouble, Items[struct_sio_trouble]): ...

class struct_sio_upstreams(Opaque): ...
class struct_sio_upstreams_ptr(Pointer[struct_sio_upstreams]): ...

# -- the functions and constants ------------------------------------------------------------------

class Lib:
    SIO_MAX_COUNT: Final[int]
    SIO_NO_OFFSET: Final[int]
    SIO_BAD_COUNT: Final[int]
    SIO_RESOLVE_NO_MAGICLINKS: Final[int]
    SIO_RESOLVE_BENEATH: Final[int]
    SIO_RESOLVE_CACHED: Final[int]
    SIO_ACT_SMALL: Final[int]
    SIO_ACT_BUF: Final[int]
    SIO_ANY_FILESYSTEM: Final[int]
    SIO_FILE_RESERVE: Final[int]
    SIO_ACT_SHIFT: Final[int]
    SIO_FILE_MOST: Final[int]
    SIO_FILE_BUF: Final[int]
    SIO_FAN_MOST: Final[int]
    SIO_ACT_TEE: Final[int]
    SIO_FAN_KNOWN: Final[int]
    SIO_PAGE_GIFT_REGION: Final[int]
    SIO_PAGE_GIFT_SMALL: Final[int]
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
    SIO_CALL_STAT: Final[int]
    SIO_CALL_OPEN: Final[int]
    SIO_CALL_ACCESS: Final[int]
    SIO_CALL_STATFS: Final[int]
    SIO_CALL_XATTR: Final[int]
    SIO_CALL_CHMOD: Final[int]
    SIO_CALL_LINK: Final[int]
    SIO_CALL_RENAME: Final[int]
    SIO_CALL_UTIMES: Final[int]
    SIO_CALL_RANDOM: Final[int]
    SIO_CALL_TLS_HEAD: Final[int]
    SIO_PHASE_ANY: Final[int]
    SIO_PHASE_DIRECT: Final[int]
    SIO_PHASE_FILL: Final[int]
    SIO_PHASE_DRAIN: Final[int]
    SIO_PHASE_MEMORY: Final[int]
    SIO_PHASE_STAGE: Final[int]
    SIO_PHASE_DROP: Final[int]
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
    SIO_UNTRIED: Final[int]
    SIO_WANT_DISK: Final[int]
    SIO_SIDE_NONE: Final[int]
    SIO_SIDE_SRC: Final[int]
    SIO_SIDE_DST: Final[int]
    SIO_HOLES_FILL: Final[int]
    SIO_HOLES_KEEP: Final[int]
    SIO_HOLES_MAKE: Final[int]
    SIO_KNOWN_SRC: Final[int]
    SIO_KNOWN_DST: Final[int]
    SIO_CACHED_ONLY: Final[int]
    SIO_FILE_OVERWRITE: Final[int]
    SIO_FILE_MODE: Final[int]
    SIO_FILE_OWNER: Final[int]
    SIO_FILE_TIMES: Final[int]
    SIO_FILE_XATTRS: Final[int]
    SIO_FILE_NAMED: Final[int]
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
    SIO_EVENT_OVER: Final[int]
    SIO_EVENT_WRITER_B: Final[int]
    SIO_EVENT_WRITER_A: Final[int]
    SIO_EVENT_ROUTE: Final[int]
    SIO_EVENT_DOWN: Final[int]
    SIO_EVENT_UP: Final[int]
    SIO_STOPPED_NOTHING: Final[int]
    SIO_STOPPED_ACCEPTING: Final[int]
    SIO_STOPPED_ALL: Final[int]
    def sio_tee(
        self,
        faults: Pointer[struct_sio_faults],
        in_: int,
        out: int,
        len: int,
        flags: int,
        /,
    ) -> int: ...
    def sio_vmsplice(
        self,
        faults: Pointer[struct_sio_faults],
        fd: int,
        bases: Pointer[Pointer[c_void]],
        lens: Pointer[c_size_t],
        count: int,
        flags: int,
        /,
    ) -> int: ...
    def sio_copy_file_range(
        self,
        faults: Pointer[struct_sio_faults],
        in_: int,
        off_in: Pointer[c_int64_t],
        out: int,
        off_out: Pointer[c_int64_t],
        len: int,
        /,
    ) -> int: ...
    def sio_peek(
        self,
        faults: Pointer[struct_sio_faults],
        fd: int,
        buf: Address,
        len: int,
        /,
    ) -> int: ...
    def sio_unread(self, faults: Pointer[struct_sio_faults], fd: int, /) -> int: ...
    def sio_window_closed(self, fd: int, /) -> int: ...
    def sio_tls_head(self, faults: Pointer[struct_sio_faults], fd: int, /) -> int: ...
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
    def sio_vmsplice_either(self, fd: int, memory: Address, len: int, flags: int, /) -> int: ...
    def sio_sendfile_at(self, out: int, in_: int, off_in: int, has: int, len: int, /) -> int: ...
    def sio_pipe_resize(self, fd: int, capacity: int, /) -> int: ...
    def sio_owned_open(
        self,
        o: Pointer[struct_sio_owned],
        folder: int,
        path: Pointer[Byte] | bytes,
        flags: int,
        mode: int,
        /,
    ) -> int: ...
    def sio_owned_open_within(
        self,
        o: Pointer[struct_sio_owned],
        folder: int,
        path: Pointer[Byte] | bytes,
        flags: int,
        resolve: int,
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
    def sio_sockbuf_free(self, fd: int, tcp: int, /) -> int: ...
    def sio_sockbuf_fits(self, free: int, slots: int, /) -> int: ...
    def sio_fdinfo(self, fd: int, about: Pointer[struct_sio_fdinfo], /) -> None: ...
    def sio_has_size(self, filesystem: int, size: int, /) -> int: ...
    def sio_statx_attributes(self, fd: int, /) -> int: ...
    def sio_spare_pipes_new(self, /) -> struct_sio_spare_pipes_ptr: ...
    def sio_spare_pipes_reset(self, shared: Pointer[struct_sio_spare_pipes], /) -> None: ...
    def sio_transfer_new(
        self,
        config: Pointer[struct_sio_transfer_config],
        /,
    ) -> struct_sio_transfer_ptr: ...
    def sio_transfer_free(self, t: Pointer[struct_sio_transfer], /) -> None: ...
    def sio_transfer_open(
        self,
        t: Pointer[struct_sio_transfer],
        config: Pointer[struct_sio_transfer_config],
        /,
    ) -> int: ...
    def sio_transfer_share(
        self,
        t: Pointer[struct_sio_transfer],
        first: Pointer[struct_sio_transfer],
        /,
    ) -> None: ...
    def sio_transfer_prefix(
        self,
        t: Pointer[struct_sio_transfer],
        data: Address | bytes,
        len: int,
        counted: int,
        /,
    ) -> int: ...
    def sio_transfer_expect(self, t: Pointer[struct_sio_transfer], known: int, /) -> None: ...
    def sio_transfer_end(self, t: Pointer[struct_sio_transfer], /) -> None: ...
    def sio_transfer_close(self, t: Pointer[struct_sio_transfer], /) -> None: ...
    def sio_transfer_moved(self, t: Pointer[struct_sio_transfer], /) -> int: ...
    def sio_transfer_report(
        self,
        t: Pointer[struct_sio_transfer],
        report: Pointer[struct_sio_transfer_report],
        /,
    ) -> None: ...
    def sio_transfer_taken(self, t: Pointer[struct_sio_transfer], /) -> int: ...
    def sio_transfer_left(self, t: Pointer[struct_sio_transfer], /) -> int: ...
    def sio_transfer_skipped(self, t: Pointer[struct_sio_transfer], /) -> int: ...
    def sio_transfer_fd(self, t: Pointer[struct_sio_transfer], side: int, /) -> int: ...
    def sio_transfer_is_ours(self, t: Pointer[struct_sio_transfer], /) -> int: ...
    def sio_transfer_error(self, t: Pointer[struct_sio_transfer], /) -> struct_sio_error_ptr: ...
    def sio_transfer_refusal(
        self,
        t: Pointer[struct_sio_transfer],
        number: int,
        /,
    ) -> struct_sio_refusal_ptr: ...
    def sio_transfer_held(self, t: Pointer[struct_sio_transfer], /) -> int: ...
    def sio_transfer_take_held(
        self,
        t: Pointer[struct_sio_transfer],
        buf: Address,
        len: int,
        /,
    ) -> int: ...
    def sio_transfer_put_back(self, t: Pointer[struct_sio_transfer], len: int, /) -> int: ...
    def sio_transfer_refresh(self, t: Pointer[struct_sio_transfer], /) -> None: ...
    def sio_transfer_try(self, t: Pointer[struct_sio_transfer], ns: int, /) -> int: ...
    def sio_transfer_turn(self, t: Pointer[struct_sio_transfer], bytes: int, /) -> int: ...
    def sio_transfer_run(
        self,
        t: Pointer[struct_sio_transfer],
        ns: int,
        idle_ns: int,
        /,
    ) -> int: ...
    def sio_transfer_restart(self, t: Pointer[struct_sio_transfer], /) -> None: ...
    def sio_transfer_wakeable(self, t: Pointer[struct_sio_transfer], /) -> int: ...
    def sio_transfer_wake(self, t: Pointer[struct_sio_transfer], /) -> None: ...
    def sio_transfer_clear_wake(self, t: Pointer[struct_sio_transfer], /) -> None: ...
    def sio_transfer_read(
        self,
        t: Pointer[struct_sio_transfer],
        buf: Address,
        len: int,
        ns: int,
        idle_ns: int,
        /,
    ) -> int: ...
    def sio_plan(self, pair: Pointer[struct_sio_pair], order: Pointer[c_int32_t], /) -> int: ...
    def sio_plan_file(
        self,
        pair: Pointer[struct_sio_file_pair],
        order: Pointer[c_int32_t],
        /,
    ) -> int: ...
    def sio_plan_reserves(self, filesystem: int, size: int, /) -> int: ...
    def sio_act_copy(
        self,
        a: Pointer[struct_sio_act],
        known: int,
        src: int,
        dst: int,
        count: int,
        off_src: int,
        off_dst: int,
        /,
    ) -> int: ...
    def sio_act_send(
        self,
        a: Pointer[struct_sio_act],
        known: int,
        sock: int,
        file: int,
        offset: int,
        count: int,
        header: Address | bytes,
        header_len: int,
        trailer: Address | bytes,
        trailer_len: int,
        /,
    ) -> int: ...
    def sio_act_copy_rest(
        self,
        a: Pointer[struct_sio_act],
        src: int,
        dst: int,
        count: int,
        off_src: int,
        off_dst: int,
        /,
    ) -> int: ...
    def sio_act_send_rest(
        self,
        a: Pointer[struct_sio_act],
        sock: int,
        file: int,
        offset: int,
        count: int,
        header: Address | bytes,
        header_len: int,
        trailer: Address | bytes,
        trailer_len: int,
        /,
    ) -> int: ...
    def sio_act_run(self, a: Pointer[struct_sio_act], slice_ns: int, idle_ns: int, /) -> int: ...
    def sio_act_close(self, a: Pointer[struct_sio_act], /) -> None: ...
    def sio_copy_file(
        self,
        c: Pointer[struct_sio_file_copy],
        src: Pointer[Byte] | bytes,
        dst: Pointer[Byte] | bytes,
        options: int,
        /,
    ) -> int: ...
    def sio_act_relay(
        self,
        r: Pointer[struct_sio_relay_act],
        a: int,
        b: int,
        engine: Pointer[struct_sio_engine],
        /,
    ) -> int: ...
    def sio_act_relay_resume(
        self,
        r: Pointer[struct_sio_relay_act],
        ab: Pointer[struct_sio_transfer],
        ba: Pointer[struct_sio_transfer],
        /,
    ) -> None: ...
    def sio_relay_new(
        self,
        config: Pointer[struct_sio_relay_config],
        /,
    ) -> struct_sio_relay_ptr: ...
    def sio_relay_free(self, r: Pointer[struct_sio_relay], /) -> None: ...
    def sio_relay_run(self, r: Pointer[struct_sio_relay], ns: int, idle_ns: int, /) -> int: ...
    def sio_relay_finished(self, r: Pointer[struct_sio_relay], /) -> int: ...
    def sio_relay_failed(self, r: Pointer[struct_sio_relay], /) -> int: ...
    def sio_relay_reason(self, r: Pointer[struct_sio_relay], /) -> int: ...
    def sio_fanout_new(
        self,
        config: Pointer[struct_sio_fanout_config],
        /,
    ) -> struct_sio_fanout_ptr: ...
    def sio_fanout_free(self, f: Pointer[struct_sio_fanout], /) -> None: ...
    def sio_fanout_report(
        self,
        f: Pointer[struct_sio_fanout],
        report: Pointer[struct_sio_fanout_report],
        /,
    ) -> None: ...
    def sio_fanout_fate(self, f: Pointer[struct_sio_fanout], i: int, /) -> int: ...
    def sio_fanout_got(self, f: Pointer[struct_sio_fanout], i: int, /) -> int: ...
    def sio_fanout_teed(self, f: Pointer[struct_sio_fanout], i: int, /) -> int: ...
    def sio_fanout_run(
        self,
        f: Pointer[struct_sio_fanout],
        ns: int,
        idle_ns: int,
        wake_fd: int,
        /,
    ) -> int: ...
    def sio_fanout_take(
        self,
        f: Pointer[struct_sio_fanout],
        i: int,
        buf: Address,
        len: int,
        /,
    ) -> int: ...
    def sio_fanout_handed(self, f: Pointer[struct_sio_fanout], /) -> int: ...
    def sio_fanout_accept(self, f: Pointer[struct_sio_fanout], /) -> None: ...
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
    def sio_act_fanout(
        self,
        a: Pointer[struct_sio_fan_act],
        src: int,
        count: int,
        sinks: Pointer[c_int32_t] | list[int] | tuple[int, ...],
        sink_count: int,
        /,
    ) -> int: ...
    def sio_act_fanout_settle(self, a: Pointer[struct_sio_fan_act], src: int, /) -> int: ...
    def sio_fanout_resume(
        self,
        f: Pointer[struct_sio_fanout],
        a: Pointer[struct_sio_fan_act],
        places: Pointer[c_int32_t] | list[int] | tuple[int, ...],
        /,
    ) -> int: ...
    def sio_completions_new(self, /) -> struct_sio_completions_ptr: ...
    def sio_completions_free(self, completions: Pointer[struct_sio_completions], /) -> None: ...
    def sio_completions_fd(self, completions: Pointer[struct_sio_completions], /) -> int: ...
    def sio_completions_wait(
        self,
        completions: Pointer[struct_sio_completions],
        ms: int,
        /,
    ) -> int: ...
    def sio_completions_wake(self, completions: Pointer[struct_sio_completions], /) -> None: ...
    def sio_completions_take(
        self,
        completions: Pointer[struct_sio_completions],
        told: Pointer[c_int32_t],
        /,
    ) -> struct_sio_conn_ptr: ...
    def sio_modes_new(self, /) -> struct_sio_modes_ptr: ...
    def sio_modes_reset(self, modes: Pointer[struct_sio_modes], /) -> None: ...
    def sio_job_new(self, config: Pointer[struct_sio_job_config], /) -> struct_sio_conn_ptr: ...
    def sio_job_free(self, conn: Pointer[struct_sio_conn], /) -> None: ...
    def sio_job_acquire(
        self,
        conn: Pointer[struct_sio_conn],
        modes: Pointer[struct_sio_modes],
        /,
    ) -> None: ...
    def sio_job_release(self, conn: Pointer[struct_sio_conn], /) -> None: ...
    def sio_job_is_taken(self, conn: Pointer[struct_sio_conn], /) -> int: ...
    def sio_job_report(
        self,
        conn: Pointer[struct_sio_conn],
        report: Pointer[struct_sio_job_report],
        /,
    ) -> None: ...
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
    def sio_engine_submit(
        self,
        e: Pointer[struct_sio_engine],
        conn: Pointer[struct_sio_conn],
        /,
    ) -> int: ...
    def sio_engine_cancel(self, conn: Pointer[struct_sio_conn], /) -> int: ...
    def sio_engine_abort(self, conn: Pointer[struct_sio_conn], /) -> None: ...
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
    def sio_engine_serve(
        self,
        e: Pointer[struct_sio_engine],
        setup: Pointer[struct_sio_proxy_config],
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
    def sio_engine_close_listeners(self, e: Pointer[struct_sio_engine], /) -> None: ...
    def sio_proxy_report(
        self,
        conn: Pointer[struct_sio_conn],
        report: Pointer[struct_sio_proxy_report],
        /,
    ) -> None: ...
    def sio_proxy_route(
        self,
        conn: Pointer[struct_sio_conn],
        ups: Pointer[struct_sio_upstreams],
        more: int,
        /,
    ) -> None: ...
    def sio_proxy_release(self, conn: Pointer[struct_sio_conn], /) -> None: ...
    def sio_page_gift_new(self, /) -> struct_sio_page_gift_ptr: ...
    def sio_page_gift_free(self, g: Pointer[struct_sio_page_gift], /) -> None: ...
    def sio_page_gift_write(
        self,
        faults: Pointer[struct_sio_faults],
        g: Pointer[struct_sio_page_gift],
        fd: int,
        data: Pointer[Byte] | bytes,
        len: int,
        flags: int,
        small: int,
        budget_ns: int,
        count: Pointer[c_int64_t],
        /,
    ) -> int: ...
    def sio_page_gift_put(
        self,
        faults: Pointer[struct_sio_faults],
        fd: int,
        data: Pointer[Byte] | bytes,
        len: int,
        budget_ns: int,
        count: Pointer[c_int64_t],
        /,
    ) -> int: ...
    def sio_page_gift_maps(self, faults: Pointer[struct_sio_faults], /) -> int: ...

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
        cdecl: Literal["struct sio_act *"],
        init: struct_sio_act | Fields = ...,
        /,
    ) -> struct_sio_act_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_act[]"],
        init: int | Array[struct_sio_act] | Sequence[struct_sio_act | Fields],
        /,
    ) -> Array[struct_sio_act]: ...
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
        cdecl: Literal["struct sio_error *"],
        init: struct_sio_error | Fields = ...,
        /,
    ) -> struct_sio_error_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_error[]"],
        init: int | Array[struct_sio_error] | Sequence[struct_sio_error | Fields],
        /,
    ) -> Array[struct_sio_error]: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_fan_act *"],
        init: struct_sio_fan_act | Fields = ...,
        /,
    ) -> struct_sio_fan_act_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_fan_act[]"],
        init: int | Array[struct_sio_fan_act] | Sequence[struct_sio_fan_act | Fields],
        /,
    ) -> Array[struct_sio_fan_act]: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_fan_sink *"],
        init: struct_sio_fan_sink | Fields = ...,
        /,
    ) -> struct_sio_fan_sink_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_fan_sink[]"],
        init: int | Array[struct_sio_fan_sink] | Sequence[struct_sio_fan_sink | Fields],
        /,
    ) -> Array[struct_sio_fan_sink]: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_fanout_config *"],
        init: struct_sio_fanout_config | Fields = ...,
        /,
    ) -> struct_sio_fanout_config_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_fanout_config[]"],
        init: int | Array[struct_sio_fanout_config] | Sequence[struct_sio_fanout_config | Fields],
        /,
    ) -> Array[struct_sio_fanout_config]: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_fanout_report *"],
        init: struct_sio_fanout_report | Fields = ...,
        /,
    ) -> struct_sio_fanout_report_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_fanout_report[]"],
        init: int | Array[struct_sio_fanout_report] | Sequence[struct_sio_fanout_report | Fields],
        /,
    ) -> Array[struct_sio_fanout_report]: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_fdinfo *"],
        init: struct_sio_fdinfo | Fields = ...,
        /,
    ) -> struct_sio_fdinfo_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_fdinfo[]"],
        init: int | Array[struct_sio_fdinfo] | Sequence[struct_sio_fdinfo | Fields],
        /,
    ) -> Array[struct_sio_fdinfo]: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_file_copy *"],
        init: struct_sio_file_copy | Fields = ...,
        /,
    ) -> struct_sio_file_copy_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_file_copy[]"],
        init: int | Array[struct_sio_file_copy] | Sequence[struct_sio_file_copy | Fields],
        /,
    ) -> Array[struct_sio_file_copy]: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_file_pair *"],
        init: struct_sio_file_pair | Fields = ...,
        /,
    ) -> struct_sio_file_pair_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_file_pair[]"],
        init: int | Array[struct_sio_file_pair] | Sequence[struct_sio_file_pair | Fields],
        /,
    ) -> Array[struct_sio_file_pair]: ...
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
        cdecl: Literal["struct sio_job_config *"],
        init: struct_sio_job_config | Fields = ...,
        /,
    ) -> struct_sio_job_config_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_job_config[]"],
        init: int | Array[struct_sio_job_config] | Sequence[struct_sio_job_config | Fields],
        /,
    ) -> Array[struct_sio_job_config]: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_job_report *"],
        init: struct_sio_job_report | Fields = ...,
        /,
    ) -> struct_sio_job_report_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_job_report[]"],
        init: int | Array[struct_sio_job_report] | Sequence[struct_sio_job_report | Fields],
        /,
    ) -> Array[struct_sio_job_report]: ...
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
        cdecl: Literal["struct sio_pair *"],
        init: struct_sio_pair | Fields = ...,
        /,
    ) -> struct_sio_pair_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_pair[]"],
        init: int | Array[struct_sio_pair] | Sequence[struct_sio_pair | Fields],
        /,
    ) -> Array[struct_sio_pair]: ...
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
        cdecl: Literal["struct sio_proxy_config *"],
        init: struct_sio_proxy_config | Fields = ...,
        /,
    ) -> struct_sio_proxy_config_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_proxy_config[]"],
        init: int | Array[struct_sio_proxy_config] | Sequence[struct_sio_proxy_config | Fields],
        /,
    ) -> Array[struct_sio_proxy_config]: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_proxy_report *"],
        init: struct_sio_proxy_report | Fields = ...,
        /,
    ) -> struct_sio_proxy_report_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_proxy_report[]"],
        init: int | Array[struct_sio_proxy_report] | Sequence[struct_sio_proxy_report | Fields],
        /,
    ) -> Array[struct_sio_proxy_report]: ...
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
        cdecl: Literal["struct sio_relay_act *"],
        init: struct_sio_relay_act | Fields = ...,
        /,
    ) -> struct_sio_relay_act_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_relay_act[]"],
        init: int | Array[struct_sio_relay_act] | Sequence[struct_sio_relay_act | Fields],
        /,
    ) -> Array[struct_sio_relay_act]: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_relay_config *"],
        init: struct_sio_relay_config | Fields = ...,
        /,
    ) -> struct_sio_relay_config_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_relay_config[]"],
        init: int | Array[struct_sio_relay_config] | Sequence[struct_sio_relay_config | Fields],
        /,
    ) -> Array[struct_sio_relay_config]: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_segment *"],
        init: struct_sio_segment | Fields = ...,
        /,
    ) -> struct_sio_segment_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_segment[]"],
        init: int | Array[struct_sio_segment] | Sequence[struct_sio_segment | Fields],
        /,
    ) -> Array[struct_sio_segment]: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_transfer **"],
        init: Pointer[struct_sio_transfer] = ...,
        /,
    ) -> Items[struct_sio_transfer_ptr]: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_transfer *[]"],
        init: int | Array[struct_sio_transfer_ptr] | Sequence[Pointer[struct_sio_transfer]],
        /,
    ) -> Array[struct_sio_transfer_ptr]: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_transfer_config *"],
        init: struct_sio_transfer_config | Fields = ...,
        /,
    ) -> struct_sio_transfer_config_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_transfer_config[]"],
        init: int | Array[
            struct_sio_transfer_config] | Sequence[struct_sio_transfer_config | Fields,
        ],
        /,
    ) -> Array[struct_sio_transfer_config]: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_transfer_report *"],
        init: struct_sio_transfer_report | Fields = ...,
        /,
    ) -> struct_sio_transfer_report_ptr: ...
    @overload
    def new(
        self,
        cdecl: Literal["struct sio_transfer_report[]"],
        init: int | Array[
            struct_sio_transfer_report] | Sequence[struct_sio_transfer_report | Fields,
        ],
        /,
    ) -> Array[struct_sio_transfer_report]: ...
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
    def cast(self, cdecl: Literal["int32_t *"], value: CData | int, /) -> Items[c_int32_t]: ...
    @overload
    def cast(self, cdecl: Literal["int64_t *"], value: CData | int, /) -> Items[c_int64_t]: ...
    @overload
    def cast(self, cdecl: Literal["size_t *"], value: CData | int, /) -> Items[c_size_t]: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_act *"],
        value: CData | int,
        /,
    ) -> struct_sio_act_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_completions *"],
        value: CData | int,
        /,
    ) -> struct_sio_completions_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_conn *"],
        value: CData | int,
        /,
    ) -> struct_sio_conn_ptr: ...
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
        cdecl: Literal["struct sio_error *"],
        value: CData | int,
        /,
    ) -> struct_sio_error_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_fan_act *"],
        value: CData | int,
        /,
    ) -> struct_sio_fan_act_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_fan_sink *"],
        value: CData | int,
        /,
    ) -> struct_sio_fan_sink_ptr: ...
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
        cdecl: Literal["struct sio_fanout_config *"],
        value: CData | int,
        /,
    ) -> struct_sio_fanout_config_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_fanout_report *"],
        value: CData | int,
        /,
    ) -> struct_sio_fanout_report_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_faults *"],
        value: CData | int,
        /,
    ) -> struct_sio_faults_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_fdinfo *"],
        value: CData | int,
        /,
    ) -> struct_sio_fdinfo_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_file_copy *"],
        value: CData | int,
        /,
    ) -> struct_sio_file_copy_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_file_pair *"],
        value: CData | int,
        /,
    ) -> struct_sio_file_pair_ptr: ...
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
        cdecl: Literal["struct sio_job_config *"],
        value: CData | int,
        /,
    ) -> struct_sio_job_config_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_job_report *"],
        value: CData | int,
        /,
    ) -> struct_sio_job_report_ptr: ...
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
        cdecl: Literal["struct sio_owned *"],
        value: CData | int,
        /,
    ) -> struct_sio_owned_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_page_gift *"],
        value: CData | int,
        /,
    ) -> struct_sio_page_gift_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_pair *"],
        value: CData | int,
        /,
    ) -> struct_sio_pair_ptr: ...
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
        cdecl: Literal["struct sio_proxy_config *"],
        value: CData | int,
        /,
    ) -> struct_sio_proxy_config_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_proxy_report *"],
        value: CData | int,
        /,
    ) -> struct_sio_proxy_report_ptr: ...
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
        cdecl: Literal["struct sio_relay_act *"],
        value: CData | int,
        /,
    ) -> struct_sio_relay_act_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_relay_config *"],
        value: CData | int,
        /,
    ) -> struct_sio_relay_config_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_segment *"],
        value: CData | int,
        /,
    ) -> struct_sio_segment_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_spare_pipes *"],
        value: CData | int,
        /,
    ) -> struct_sio_spare_pipes_ptr: ...
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
        cdecl: Literal["struct sio_transfer **"],
        value: CData | int,
        /,
    ) -> Items[struct_sio_transfer_ptr]: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_transfer_config *"],
        value: CData | int,
        /,
    ) -> struct_sio_transfer_config_ptr: ...
    @overload
    def cast(
        self,
        cdecl: Literal["struct sio_transfer_report *"],
        value: CData | int,
        /,
    ) -> struct_sio_transfer_report_ptr: ...
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
            "struct sio_act",
            "struct sio_counts",
            "struct sio_error",
            "struct sio_fan_act",
            "struct sio_fan_sink",
            "struct sio_fanout_config",
            "struct sio_fanout_report",
            "struct sio_fdinfo",
            "struct sio_file_copy",
            "struct sio_file_pair",
            "struct sio_identity",
            "struct sio_job_config",
            "struct sio_job_report",
            "struct sio_network",
            "struct sio_owned",
            "struct sio_pair",
            "struct sio_peer",
            "struct sio_proxy_config",
            "struct sio_proxy_report",
            "struct sio_refusal",
            "struct sio_relay_act",
            "struct sio_relay_config",
            "struct sio_segment",
            "struct sio_transfer_config",
            "struct sio_transfer_report",
            "struct sio_trouble",
        ],
        /,
    ) -> StructType: ...
    @overload
    def typeof(self, cdecl: CData | str, /) -> CType: ...

ffi: Final[FFI]
lib: Final[Lib]
