"""What http.server and WSGI need: `SendfileMixin`, `FileWrapper`, conditional requests.

Not here: sending the bytes, which is `_transfer`'s, and listening, which is `_proxy`'s.
"""
