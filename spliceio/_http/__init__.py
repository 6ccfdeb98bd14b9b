"""HTTP: `SendfileMixin` for http.server, `FileWrapper` for WSGI, conditional requests.

Not here: sending the bytes, which is `_transfer`'s, and listening, which is `_proxy`'s.
"""
