"""Sessions and cursors as opaque text that only this cluster can have made, for this tenant."""

from __future__ import annotations

import base64
import hmac
from hashlib import blake2b
from typing import Final, TypeVar

import msgspec

from holdfast.errors import InvalidArgument
from holdfast.wire.frames import decoder, encode

T = TypeVar("T", bound=msgspec.Struct)

MAC_BYTES: Final = 16


class SessionKey(msgspec.Struct, array_like=True, frozen=True):
    session: bytes
    ttl_ms: int
    """So that a keepalive need not say it, and every router knows it."""


class Cursor(msgspec.Struct, array_like=True, frozen=True):
    """Where the next page of a list begins; ``what`` and ``prefix`` are those of the list that it belongs to."""

    what: str
    prefix: str
    group: int
    inner: str


class Seals:
    """Texts are sealed by a key of the tenant, which is derived from the cluster's secret."""

    def __init__(self, secret: str) -> None:
        self._secret = blake2b(secret.encode(), digest_size=32, person=b"holdfast seals").digest()

    def _mac(self, tenant: int, kind: str, body: bytes) -> bytes:
        key = blake2b(tenant.to_bytes(8, "big"), key=self._secret, digest_size=32).digest()
        return blake2b(kind.encode() + b"\0" + body, key=key, digest_size=MAC_BYTES).digest()

    def seal(self, tenant: int, kind: str, value: msgspec.Struct) -> str:
        body = encode(value)
        return f"{kind}_" + base64.urlsafe_b64encode(self._mac(tenant, kind, body) + body).decode().rstrip("=")

    def open(self, tenant: int, kind: str, text: str, shape: type[T]) -> T:
        """Raises :class:`InvalidArgument` for any text that :meth:`seal` did not make for this tenant."""
        head, _, rest = text.partition("_")
        try:
            data = base64.b64decode(rest + "=" * (-len(rest) % 4), altchars=b"-_", validate=True)
        except ValueError:
            data = b""
        body = data[MAC_BYTES:]
        if head != kind or not body or not hmac.compare_digest(data[:MAC_BYTES], self._mac(tenant, kind, body)):
            raise InvalidArgument(f"this {_KINDS[kind]} was not given by this service: pass it exactly as it was given")
        return decoder(shape)(body)


SESSION: Final = "hfs1"
CURSOR: Final = "hfc1"
_KINDS: Final = {SESSION: "session", CURSOR: "cursor"}
