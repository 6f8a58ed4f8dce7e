"""TLS 1.3 alone, which grpcio has no other way to be told.

To be loaded before grpc is, which reads this once. Suites of TLS 1.3 are not chosen by it; of TLS 1.2 it leaves one
that needs a key shared beforehand, and as there is none, no handshake of 1.2 comes to an end.
"""

from __future__ import annotations

import os

os.environ["GRPC_SSL_CIPHER_SUITES"] = "ECDHE-PSK-AES128-CBC-SHA"
