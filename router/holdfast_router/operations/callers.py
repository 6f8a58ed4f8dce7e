"""Who asks, what it may do, and when it asked."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from holdfast.clock import boottime_ms
from holdfast.wire.errors import Forbidden
from holdfast.wire.tenants import KeyRole, Principal

_RANKS: Final = {KeyRole.READ: 0, KeyRole.LOCKS: 1, KeyRole.ADMIN: 2}


class Caller(Struct, frozen=True):
    principal: Principal
    arrived_ms: float
    """When its request came, on the router's clock that runs through suspend: what it is told counts from here."""
    address: str = ""
    """Where from, for the audit log."""
    request: bytes = b""
    """16 bytes, the same for every copy of one request whatever router it reaches; empty when it has none."""

    @property
    def tenant(self) -> int:
        return self.principal.tenant

    def heard(self) -> Caller:
        """The same caller, whose request has come only now: of what comes in pieces the last one counts, for nobody can
        have taken a later moment for that of sending."""
        return replace(self, arrived_ms=boottime_ms())

    def part(self, at: int) -> Caller:
        """The same caller for one operation of a batch, whose copies are told from those of the others."""
        if not self.request:
            return self
        return replace(self, request=blake2b(self.request + at.to_bytes(4, "big"), digest_size=16).digest())

    def expires_in_ms(self, until_ms: float) -> int:
        return max(int(until_ms - self.arrived_ms), 0)

    def need(self, role: KeyRole, *names: str) -> None:
        """Raise :class:`Forbidden` unless the key has that role, and its prefix if any begins all the names."""
        mine, prefix = self.principal.role, self.principal.prefix
        if _RANKS[mine] < _RANKS[role]:
            raise Forbidden(f"this API key has the role {mine}, and this needs {role}")
        if prefix and not all(name.startswith(prefix) for name in names):
            raise Forbidden(f"this API key is for names that begin with {prefix!r}")

    def need_all_names(self) -> None:
        """Raise :class:`Forbidden` for a key with a prefix: what is asked for is about names of any kind."""
        if self.principal.prefix:
            raise Forbidden("an API key with a name prefix cannot be used for sessions of others")
