"""LockID: a grant as opaque text that finds its own way."""

from __future__ import annotations

from typing import Final

import msgspec

from holdfast.wire.errors import InvalidLockID
from holdfast.wire.limits import LOCK_ID_CHARACTERS_MAX, TOKEN_MAX
from holdfast.wire.names import check_name
from holdfast.wire.sealing import sealed, unsealed

PREFIX: Final = "hf1_"
_PURPOSE: Final = b"lock id"


class LockID(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Which grant: tenant, name and fencing token."""

    tenant: int
    name: str
    token: int

    def text(self, key: bytes) -> str:
        """Sealed with the tenant's key (``holdfast.wire.sealing``): nobody else can make one, or change it."""
        return PREFIX + sealed(key, _PURPOSE, msgspec.msgpack.encode(self))


def parse_lock_id(text: str, tenant: int, key: bytes) -> LockID:
    """Read a LockID of this tenant. Raises :class:`InvalidLockID` for any other text; what is of another tenant, broken
    or made up is told alike."""
    if not text.startswith(PREFIX) or len(text) > LOCK_ID_CHARACTERS_MAX:
        raise InvalidLockID("a LockID begins with hf1_: pass the text exactly as it was given with the grant")
    try:
        found = msgspec.msgpack.decode(unsealed(key, _PURPOSE, text[len(PREFIX) :]), type=LockID)
        check_name(found.name)
    except (ValueError, msgspec.DecodeError):
        found = None
    if found is None or found.tenant != tenant or not 0 < found.token <= TOKEN_MAX:
        raise InvalidLockID(
            "this LockID is damaged, or of another tenant: pass the text exactly as it was given with the grant"
        )
    return found
