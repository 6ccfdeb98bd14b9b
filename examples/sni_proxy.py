"""Route TLS connections by the server name that they ask for, without ending TLS.

    python sni_proxy.py 127.0.0.1:8443 a.example=127.0.0.1:9001 b.example=127.0.0.1:9002
    curl --connect-to a.example:443:127.0.0.1:8443 https://a.example/

The name is in the first message of a client, the ClientHello, which is not encrypted. It is looked
at and not taken: the server gets every byte, and has the only key. A name that is not in the list,
or none, is refused: the connection is closed.
"""

from __future__ import annotations

import argparse

from spliceio import MORE, Proxy, tls_server_name

UPSTREAMS: dict[str, str] = {}


def route(client, first: bytes):
    """Say where a connection goes, from the first bytes that its client has sent."""
    name = tls_server_name(first)
    return MORE if name is MORE else UPSTREAMS.get(name)


def main() -> None:
    parser = argparse.ArgumentParser(description="Route TLS connections by server name.")
    parser.add_argument("listen", metavar="LISTEN", help="host:port, [v6]:port or unix:/path")
    parser.add_argument("upstreams", metavar="NAME=UPSTREAM", nargs="+")
    args = parser.parse_args()
    for one in args.upstreams:
        name, equals, upstream = one.partition("=")
        if not (name and equals and upstream):
            parser.error(f"{one}: write NAME=UPSTREAM")
        UPSTREAMS[name.lower()] = upstream
    with Proxy(args.listen, route=route) as proxy:
        print(f"listening on {proxy.address}", flush=True)
        proxy.serve_forever()


if __name__ == "__main__":
    main()
