"""Zero-copy I/O on Linux: splice, tee, vmsplice and sendfile, and what is built on them.

The package loads its parts on first use, so that importing it costs next to nothing. Everything
public is a name of this module; modules that begin with an underscore are not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ._blob import Blob as Blob
    from ._copy import chunks as chunks
    from ._copy import copy as copy
    from ._copy import discard as discard
    from ._copy_file import CopyResult as CopyResult
    from ._copy_file import copy_file as copy_file
    from ._duplex import Duplex as Duplex
    from ._duplex import pipe_pair as pipe_pair
    from ._errors import UnexpectedEOF as UnexpectedEOF
    from ._fanout import fanout as fanout
    from ._features import Features as Features
    from ._features import Probe as Probe
    from ._features import features as features
    from ._fileobj import copyfileobj as copyfileobj
    from ._flow import Fallback as Fallback
    from ._http import SendfileMixin as SendfileMixin
    from ._pagewriter import PageWriter as PageWriter
    from ._peek import peek as peek
    from ._pipe import Pipe as Pipe
    from ._plan import Plan as Plan
    from ._plan import explain as explain
    from ._pool import PoolStats as PoolStats
    from ._pool import RelayFuture as RelayFuture
    from ._pool import RelayPool as RelayPool
    from ._proxy import Proxy as Proxy
    from ._proxy import ProxyStats as ProxyStats
    from ._receive import receive_file as receive_file
    from ._relay import RelayResult as RelayResult
    from ._relay import relay as relay
    from ._send import send_file as send_file
    from ._send import send_ranges as send_ranges
    from ._sinks import FanoutResult as FanoutResult
    from ._sinks import SinkResult as SinkResult
    from ._sniff import MORE as MORE
    from ._sniff import http_host as http_host
    from ._sniff import tls_server_name as tls_server_name
    from ._syscalls import SPLICE_F_GIFT as SPLICE_F_GIFT
    from ._syscalls import SPLICE_F_MORE as SPLICE_F_MORE
    from ._syscalls import SPLICE_F_MOVE as SPLICE_F_MOVE
    from ._syscalls import SPLICE_F_NONBLOCK as SPLICE_F_NONBLOCK
    from ._syscalls import SpliceFlag as SpliceFlag
    from ._syscalls import sendfile as sendfile
    from ._syscalls import splice as splice
    from ._syscalls import tee as tee
    from ._syscalls import try_sendfile as try_sendfile
    from ._syscalls import try_splice as try_splice
    from ._syscalls import try_tee as try_tee
    from ._transfer import Transfer as Transfer
    from ._transfer import TransferResult as TransferResult
    from ._vmsplice import try_vmsplice as try_vmsplice
    from ._vmsplice import vmsplice as vmsplice
    from ._wsgi import FileWrapper as FileWrapper

_WHERE = {
    "_syscalls": (
        "SPLICE_F_GIFT",
        "SPLICE_F_MORE",
        "SPLICE_F_MOVE",
        "SPLICE_F_NONBLOCK",
        "SpliceFlag",
        "sendfile",
        "splice",
        "tee",
        "try_sendfile",
        "try_splice",
        "try_tee",
    ),
    "_vmsplice": ("try_vmsplice", "vmsplice"),
    "_pipe": ("Pipe",),
    "_peek": ("peek",),
    "_sniff": ("MORE", "http_host", "tls_server_name"),
    "_duplex": ("Duplex", "pipe_pair"),
    "_plan": ("Plan", "explain"),
    "_flow": ("Fallback",),
    "_pagewriter": ("PageWriter",),
    "_transfer": ("Transfer", "TransferResult"),
    "_blob": ("Blob",),
    "_copy": ("chunks", "copy", "discard"),
    "_errors": ("UnexpectedEOF",),
    "_fanout": ("fanout",),
    "_sinks": ("FanoutResult", "SinkResult"),
    "_send": ("send_file", "send_ranges"),
    "_receive": ("receive_file",),
    "_copy_file": ("CopyResult", "copy_file"),
    "_fileobj": ("copyfileobj",),
    "_wsgi": ("FileWrapper",),
    "_http": ("SendfileMixin",),
    "_relay": ("RelayResult", "relay"),
    "_pool": ("PoolStats", "RelayFuture", "RelayPool"),
    "_proxy": ("Proxy", "ProxyStats"),
    "_features": ("Features", "Probe", "features"),
}
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names}

__all__ = [
    "__version__",
    *sorted(_MODULE_OF),
]


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'spliceio' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"spliceio.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
