"""LockID: a grant as opaque text that finds its own way."""

from __future__ import annotations

import base64
from zlib import crc32

import msgspec

from holdfast.wire.errors import InvalidLockID
from holdfast.wire.limits import TOKEN_MAX
from holdfast.wire.names import check_name

_PREFIX = "hf1_"


class LockID(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Which grant: tenant, name and fencing token. Its text carries a checksum, so that a mistyped one is refused."""

    tenant: int
    name: str
    token: int

    def __str__(self) -> str:
        body = msgspec.msgpack.encode(self)
        return _PREFIX + base64.urlsafe_b64encode(crc32(body).to_bytes(4, "big") + body).decode().rstrip("=")


def parse_lock_id(text: str, tenant: int | None = None) -> LockID:
    """Read a LockID; raises :class:`InvalidLockID` for any other text and for one of another tenant than given."""
    if not text.startswith(_PREFIX) or len(text) > 1024:
        raise InvalidLockID("a LockID begins with hf1_: pass the text exactly as it was given with the grant")
    raw = text[len(_PREFIX) :]
    try:
        data = base64.b64decode(raw + "=" * (-len(raw) % 4), altchars=b"-_", validate=True)
        if crc32(data[4:]).to_bytes(4, "big") != data[:4]:
            raise ValueError("checksum")
        lock_id = msgspec.msgpack.decode(data[4:], type=LockID)
        check_name(lock_id.name)
    except (ValueError, msgspec.DecodeError):
        raise InvalidLockID("this LockID is damaged: pass the text exactly as it was given with the grant") from None
    if not 0 < lock_id.token <= TOKEN_MAX:
        raise InvalidLockID("this LockID is damaged: pass the text exactly as it was given with the grant")
    if tenant is not None and lock_id.tenant != tenant:
        raise InvalidLockID("this LockID belongs to another tenant")
    return lock_id
