"""Prometheus metrics of a proxy over HTTP, by prometheus-client.

The extra "metrics" installs it; nothing else of the package needs it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

from .._proxy import address as _address
from .._proxy.proxy import ProxyStats
from .progress import MissingExtra

__all__ = ["require_prometheus", "serve"]


def require_prometheus() -> None:
    """Raise MissingExtra when there is no prometheus-client."""
    if importlib.util.find_spec("prometheus_client") is None:
        raise MissingExtra("--metrics needs prometheus-client: pip install 'spliceio[metrics]'")


class _Collector:
    """Reads the proxy's counts at each scrape."""

    def __init__(self, stats: Callable[[], ProxyStats]) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Any]:
        """Yield the metrics, as prometheus-client asks for them."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        stats = self._stats()
        for name, text, value in (
            ("active_connections", "Connections that are open.", stats.active),
            ("open_pipes", "Pipes that exist.", stats.pipes_open),
            ("held_pipes", "Pipes in use by a connection.", stats.pipes_held),
        ):
            yield GaugeMetricFamily(f"spliceio_proxy_{name}", text, value)
        for name, text, value in (
            ("connections", "Connections that were accepted.", stats.total),
            ("failed_connections", "Connections that found no upstream.", stats.failed),
            ("out_of_descriptors", "Times that no descriptor was left to accept.", stats.full),
        ):
            yield CounterMetricFamily(f"spliceio_proxy_{name}", text, value)
        both = CounterMetricFamily(
            "spliceio_proxy_bytes", "Bytes that arrived.", labels=["direction"]
        )
        both.add_metric(["client_to_upstream"], stats.a_to_b)
        both.add_metric(["upstream_to_client"], stats.b_to_a)
        yield both
        by_method = CounterMetricFamily(
            "spliceio_proxy_moved_bytes", "Bytes by the way they went.", labels=["method"]
        )
        for method in ("splice", "read_write"):
            by_method.add_metric([method], stats.methods.get(method, 0))
        yield by_method


def serve(
    address: _address.Address, stats: Callable[[], ProxyStats]
) -> tuple[Callable[[], None], str]:
    """Serve the metrics at an address, in a thread; return what ends it, and the URL.

    Raises OSError that names the address.
    """
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry()
    registry.register(_Collector(stats))
    try:
        server, thread = start_http_server(
            address.port, addr=address.host or "::", registry=registry
        )
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(address)) from None

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    host, port = server.server_address[:2]
    return stop, f"http://{_address.Address(str(host), int(port))}/metrics"
