"""Listen, accept, connect: `Proxy`, its addresses, names, routes and access log.

Moving the bytes of a connection that stands is `_relay`'s.
"""
