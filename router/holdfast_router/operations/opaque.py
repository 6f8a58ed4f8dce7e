"""Sessions and cursors as opaque text that only this cluster can have made, for this tenant."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Final, TypeVar

import msgspec

from holdfast.errors import InvalidArgument
from holdfast.wire.frames import decoder, encode
from holdfast.wire.sealing import seal_key, sealed, unsealed

T = TypeVar("T", bound=msgspec.Struct)

TENANTS_KEPT: Final = 1024
"""Keys kept ready: making one costs as much as using it."""


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
        self.key = lru_cache(TENANTS_KEPT)(partial(seal_key, secret))

    def seal(self, tenant: int, kind: str, value: msgspec.Struct) -> str:
        return f"{kind}_{sealed(self.key(tenant), _PURPOSES[kind], encode(value))}"

    def open(self, tenant: int, kind: str, text: str, shape: type[T]) -> T:
        """Raises :class:`InvalidArgument` for any text that :meth:`seal` did not make for this tenant."""
        head, _, rest = text.partition("_")
        try:
            if head != kind:
                raise ValueError("another kind")
            return decoder(shape)(unsealed(self.key(tenant), _PURPOSES[kind], rest))
        except ValueError:
            what = _PURPOSES[kind].decode()
            raise InvalidArgument(f"this {what} was not given by this service: pass it exactly as it was") from None


SESSION: Final = "hfs1"
CURSOR: Final = "hfc1"
_PURPOSES: Final = {SESSION: b"session", CURSOR: b"cursor"}
