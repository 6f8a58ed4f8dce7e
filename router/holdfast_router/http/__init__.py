"""The HTTP/JSON front, ``/v1``: it translates, and does nothing of its own (``docs/http.md``)."""
