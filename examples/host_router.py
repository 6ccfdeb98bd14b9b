"""Route HTTP connections by the Host header of their first request.

    python host_router.py 127.0.0.1:8080 a.example=127.0.0.1:9001 b.example=127.0.0.1:9002
    curl --connect-to a.example:80:127.0.0.1:8080 http://a.example/

Only the head of the first request is looked at, and the server gets that too; everything after it
goes by inside the kernel. So a connection stays with the server that its first request has named:
right for clients, which open a connection for each host, and not behind a proxy that puts requests
for several hosts on one. A host that is not in the list, or none, is refused: the connection is
closed.
"""

from __future__ import annotations

import argparse

from spliceio import MORE, Proxy, http_host

UPSTREAMS: dict[str, str] = {}


def route(client, first: bytes):
    """Say where a connection goes, from the first bytes that its client has sent."""
    host = http_host(first)
    return MORE if host is MORE else UPSTREAMS.get(host)


def main() -> None:
    parser = argparse.ArgumentParser(description="Route HTTP connections by host.")
    parser.add_argument("listen", metavar="LISTEN", help="host:port, [v6]:port or unix:/path")
    parser.add_argument("upstreams", metavar="HOST=UPSTREAM", nargs="+")
    args = parser.parse_args()
    for one in args.upstreams:
        host, equals, upstream = one.partition("=")
        if not (host and equals and upstream):
            parser.error(f"{one}: write HOST=UPSTREAM")
        UPSTREAMS[host.lower()] = upstream
    with Proxy(args.listen, route=route) as proxy:
        print(f"listening on {proxy.address}", flush=True)
        proxy.serve_forever()


if __name__ == "__main__":
    main()
