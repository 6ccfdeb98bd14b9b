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
