"""What a Proxy asks the kernel while it waits: nothing, or less and less.

Rule: the calls are counted while time passes for the engine, a few milliseconds at a time.
"""

from __future__ import annotations

import errno

from spliceio import Proxy
from tests.support.pools import at_rest
from tests.support.proxies import ANY, At, idle, named, scripted, skip, talks
from tests.support.seam import ALWAYS, fail
from tests.support.servers import Server, echo
from tests.support.states import until


def pass_slowly(proxy: Proxy, seconds: float) -> None:
    """Let time pass, with a round of the engine every ten milliseconds."""
    for _ in range(int(seconds * 100)):
        skip(proxy, 0.01)
        at_rest()


def test_clients_above_max_connections_cost_nothing():
    """They wait in the backlog, and the end of a connection lets the next one in."""
    with Server(echo) as server:
        proxy = Proxy(ANY, server.address, max_connections=1)
        seam = scripted(proxy)
        with proxy, At(proxy).connect() as first, At(proxy).connect() as second:
            assert talks(first)
            at_rest()
            before = [row for row in seam.log if row.call != "epoll_wait"]
            pass_slowly(proxy, 2)
            assert [row for row in seam.log if row.call != "epoll_wait"] == before
            first.close()
            assert talks(second)
            second.close()
            assert idle(proxy).total == 2


def test_max_connections_of_two_threads_lets_the_next_one_in():
    """The connection that ends may be the other thread's."""
    with (
        Server(echo) as server,
        Proxy(ANY, server.address, max_connections=2, threads=2) as proxy,
    ):
        for _ in range(5):
            crowd = [At(proxy).connect() for _ in range(6)]
            for sock in crowd:
                with sock:
                    assert talks(sock)
        assert idle(proxy).total == 30


def test_a_shortage_is_asked_about_less_and_less():
    """A dozen attempts in five seconds, not 250; and it is served soon after it has ended."""
    with Server(named(b"A")) as server:
        proxy = Proxy(ANY, server.address, connect_timeout=None)
        seam = scripted(proxy, fail("connect", errno.EADDRNOTAVAIL, times=ALWAYS))
        with proxy, At(proxy).connect() as client:
            until(lambda: seam.calls("connect"))
            pass_slowly(proxy, 5)
            assert 5 < len(seam.calls("connect")) < 20
            seam._rules[0].times = 0
            while proxy.stats().b_to_a == 0:
                skip(proxy, 0.01)
                at_rest()
            assert client.recv(10) == b"A"
            client.close()
            idle(proxy)
