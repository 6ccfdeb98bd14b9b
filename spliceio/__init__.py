"""Zero-copy I/O on Linux: splice, tee, vmsplice and sendfile, and what is built on them.

The package loads its parts on first use, so that importing it costs next to nothing. Everything
public is a name of this module; modules that begin with an underscore are not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._fanout.fanout import fanout as fanout
    from ._fanout.sinks import FanoutResult as FanoutResult
    from ._fanout.sinks import SinkResult as SinkResult
    from ._files.copy_file import copy_file as copy_file
    from ._files.result import CopyResult as CopyResult
    from ._http.mixin import SendfileMixin as SendfileMixin
    from ._http.wsgi import FileWrapper as FileWrapper
    from ._kernel.duplex import Duplex as Duplex
    from ._kernel.duplex import pipe_pair as pipe_pair
    from ._kernel.errors import UnexpectedEOF as UnexpectedEOF
    from ._kernel.features import Features as Features
    from ._kernel.features import Probe as Probe
    from ._kernel.features import features as features
    from ._kernel.pipe import Pipe as Pipe
    from ._kernel.syscalls import SPLICE_F_GIFT as SPLICE_F_GIFT
    from ._kernel.syscalls import SPLICE_F_MORE as SPLICE_F_MORE
    from ._kernel.syscalls import SPLICE_F_MOVE as SPLICE_F_MOVE
    from ._kernel.syscalls import SPLICE_F_NONBLOCK as SPLICE_F_NONBLOCK
    from ._kernel.syscalls import SpliceFlag as SpliceFlag
    from ._kernel.syscalls import sendfile as sendfile
    from ._kernel.syscalls import splice as splice
    from ._kernel.syscalls import tee as tee
    from ._kernel.syscalls import try_sendfile as try_sendfile
    from ._kernel.syscalls import try_splice as try_splice
    from ._kernel.syscalls import try_tee as try_tee
    from ._kernel.vmsplice import try_vmsplice as try_vmsplice
    from ._kernel.vmsplice import vmsplice as vmsplice
    from ._memory.blob import Blob as Blob
    from ._memory.page_writer import PageWriter as PageWriter
    from ._proxy.proxy import Proxy as Proxy
    from ._proxy.proxy import ProxyStats as ProxyStats
    from ._proxy.sniff import MORE as MORE
    from ._proxy.sniff import http_host as http_host
    from ._proxy.sniff import tls_server_name as tls_server_name
    from ._relay.future import RelayFuture as RelayFuture
    from ._relay.pool import PoolStats as PoolStats
    from ._relay.pool import RelayPool as RelayPool
    from ._relay.relay import relay as relay
    from ._relay.result import RelayResult as RelayResult
    from ._transfer.copy import chunks as chunks
    from ._transfer.copy import copy as copy
    from ._transfer.copy import discard as discard
    from ._transfer.fileobj import copyfileobj as copyfileobj
    from ._transfer.peek import peek as peek
    from ._transfer.plan import Plan as Plan
    from ._transfer.plan import explain as explain
    from ._transfer.receive import receive_file as receive_file
    from ._transfer.result import Fallback as Fallback
    from ._transfer.result import TransferResult as TransferResult
    from ._transfer.send import send_file as send_file
    from ._transfer.send import send_ranges as send_ranges
    from ._transfer.transfer import Transfer as Transfer
    from ._version import __version__ as __version__

_WHERE = {
    "_version": ("__version__",),
    "_kernel.syscalls": (
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
    "_kernel.vmsplice": ("try_vmsplice", "vmsplice"),
    "_kernel.pipe": ("Pipe",),
    "_transfer.peek": ("peek",),
    "_proxy.sniff": ("MORE", "http_host", "tls_server_name"),
    "_kernel.duplex": ("Duplex", "pipe_pair"),
    "_transfer.plan": ("Plan", "explain"),
    "_transfer.result": ("Fallback", "TransferResult"),
    "_memory.page_writer": ("PageWriter",),
    "_transfer.transfer": ("Transfer",),
    "_memory.blob": ("Blob",),
    "_transfer.copy": ("chunks", "copy", "discard"),
    "_kernel.errors": ("UnexpectedEOF",),
    "_fanout.fanout": ("fanout",),
    "_fanout.sinks": ("FanoutResult", "SinkResult"),
    "_transfer.send": ("send_file", "send_ranges"),
    "_transfer.receive": ("receive_file",),
    "_files.copy_file": ("copy_file",),
    "_files.result": ("CopyResult",),
    "_transfer.fileobj": ("copyfileobj",),
    "_http.wsgi": ("FileWrapper",),
    "_http.mixin": ("SendfileMixin",),
    "_relay.relay": ("relay",),
    "_relay.result": ("RelayResult",),
    "_relay.future": ("RelayFuture",),
    "_relay.pool": ("PoolStats", "RelayPool"),
    "_proxy.proxy": ("Proxy", "ProxyStats"),
    "_kernel.features": ("Features", "Probe", "features"),
}
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names}

__all__ = sorted(_MODULE_OF)


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
