"""Texts that are handed out and come back, such as LockIDs: sealed with a key of the tenant, so that none can be made
up, changed, or used by another tenant."""

from __future__ import annotations

import base64
import hmac
from hashlib import blake2b
from typing import Final

SEAL_BYTES: Final = 16


def seal_key(secret: str, tenant: int) -> bytes:
    """The key of a tenant, from the secret of the cluster: the same at every router, which tells SDKs theirs."""
    return blake2b(
        tenant.to_bytes(8, "big"), key=secret.encode()[:64], digest_size=32, person=b"holdfast seal"
    ).digest()


def sealed(key: bytes, purpose: bytes, body: bytes) -> str:
    """``body`` and its seal as text of letters, digits, ``-`` and ``_``. ``purpose``, at most 16 bytes, keeps kinds of
    texts apart."""
    return base64.urlsafe_b64encode(_seal(key, purpose, body) + body).decode().rstrip("=")


def unsealed(key: bytes, purpose: bytes, text: str) -> bytes:
    """The body. Raises ``ValueError`` when the text was not made with this key for this purpose."""
    data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    body = data[SEAL_BYTES:]
    if not hmac.compare_digest(_seal(key, purpose, body), data[:SEAL_BYTES]):
        raise ValueError("the seal is not right")
    return body


def _seal(key: bytes, purpose: bytes, body: bytes) -> bytes:
    return blake2b(body, key=key, digest_size=SEAL_BYTES, person=purpose).digest()
