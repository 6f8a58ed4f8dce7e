"""The gRPC front: holdfast.v1, the standard health service and reflection, in the router's own loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import grpc

from holdfast.wire.crowd import Crowd
from holdfast.wire.limits import CONNECTIONS_MAX
from holdfast.wire.tls import TlsFiles

from ..directory import Directory
from ..operations import Operations
from ..operations.presence import Presence
from .admin import AdminService
from .calls import STRANGERS_MAX, Calls
from .locks import LockService
from .sessions import SessionService
from .standard import STANDARD_MAX, StandardServices

MESSAGE_BYTES_MAX: Final = 1 << 20
"""Of a request."""
METADATA_BYTES_MAX: Final = 16 << 10
STREAMS_PER_CONNECTION_MAX: Final = 1000
CALLS_MAX: Final = 10_000
"""Of callers with a key under way at once, waiting and watching ones included."""
CALLS_PER_ADDRESS_MAX: Final = 4_000
"""Of them; connections themselves can be counted in all alone."""
HANDSHAKE_S: Final = 5
"""Within which a connection has to have said that it speaks HTTP/2, with TLS if there is any."""
AGE_S: Final = 3600
"""A connection so old takes no new calls: its caller opens another. Those under way go on."""
IDLE_S: Final = 600
"""A connection without a call under way is closed after so long."""
PING_AFTER_S: Final = 20
PING_TIMEOUT_S: Final = 10
"""A caller that vanished without a word is noticed within their sum, and what it waited for is taken back."""
CLOSING_S: Final = 1.0

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.absolute_max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION_MAX),
    ("grpc.max_allowed_incoming_connections", CONNECTIONS_MAX),
    ("grpc.server_handshake_timeout_ms", HANDSHAKE_S * 1000),
    ("grpc.max_connection_idle_ms", IDLE_S * 1000),
    ("grpc.max_connection_age_ms", AGE_S * 1000),
    ("grpc.keepalive_time_ms", PING_AFTER_S * 1000),
    ("grpc.keepalive_timeout_ms", PING_TIMEOUT_S * 1000),
    # What a ping that is not answered is given; by itself a minute, whatever the one above says.
    ("grpc.http2.ping_timeout_ms", PING_TIMEOUT_S * 1000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
    # Identity alone: what is compressed cannot be measured before it has been inflated.
    ("grpc.compression_enabled_algorithms_bitset", 1),
    # Another router on the same port is a mistake to be told of.
    ("grpc.so_reuseport", 0),
)


class GrpcFront:
    """Create inside a running loop. ``ready``: whether the router can serve; told by the health service."""

    def __init__(self, operations: Operations, directory: Directory, ready: Callable[[], bool]) -> None:
        calls = Calls(operations, directory, Crowd(CALLS_MAX, CALLS_PER_ADDRESS_MAX), Presence(CALLS_MAX))
        services = (LockService(operations), SessionService(operations), AdminService(operations))
        # The library refuses without a reason, and counts a call until it is refused: it must not come to that.
        most = 2 * (CALLS_MAX + STRANGERS_MAX + STANDARD_MAX)
        self._server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=most)
        names = [service.DESCRIPTOR.full_name for service in services]
        self._server.add_generic_rpc_handlers(
            (
                *(calls.handlers(service.DESCRIPTOR, service.methods) for service in services),
                *StandardServices(names, ready).handlers(),
            )
        )
        self.address = ""

    async def listen(self, host: str, port: int, tls: TlsFiles | None) -> None:
        """Raises ``OSError`` when it cannot listen there."""
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if tls is None:
                bound = self._server.add_insecure_port(where)
            else:
                bound = self._server.add_secure_port(where, _credentials(tls))
        except RuntimeError as error:
            raise OSError(str(error)) from None
        await self._server.start()
        self.address = f"{host}:{bound}"

    async def close(self) -> None:
        """Calls under way have a moment to end."""
        await self._server.stop(CLOSING_S)


def _credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Read anew for each connection, so that changed files are in force at once; while they do not fit, what was."""

    def now() -> grpc.ServerCertificateConfiguration:
        authority = files.authority.read_bytes() if files.authority is not None else None
        return grpc.ssl_server_certificate_configuration(
            [(files.key.read_bytes(), files.certificate.read_bytes())], authority
        )

    last = now()

    def fetched() -> grpc.ServerCertificateConfiguration:
        nonlocal last
        try:
            last = now()
        except OSError:
            pass  # they are being replaced
        return last

    return grpc.dynamic_ssl_server_credentials(last, fetched, files.authority is not None)
