"""TCP and unix socket proxy: `Proxy`, listeners, upstreams, routes and access log.

Moving the bytes of a connection that stands is `_relay`'s.
"""
