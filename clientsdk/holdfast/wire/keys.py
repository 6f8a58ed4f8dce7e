"""API keys: ``hf_ID_SECRET``. The id is public and found by; the secret is shown once and kept as a salted hash."""

from __future__ import annotations

import base64
import hmac
import secrets
from hashlib import blake2b
from typing import Final

from .tenants import ApiKey, KeyRole

ID_CHARS: Final = 12
SECRET_CHARS: Final = 43
SALT_BYTES: Final = 16
DIGEST_BYTES: Final = 32
_ALPHABET: Final = frozenset("abcdefghijklmnopqrstuvwxyz234567")


def new_key(name: str, role: KeyRole, prefix: str, now_ms: int) -> tuple[ApiKey, str]:
    """A key of 256 random bits and the text that its owner is given; ``now_ms`` is Unix time."""
    number = base64.b32encode(secrets.token_bytes(8)).decode().lower()[:ID_CHARS]
    text = f"hf_{number}_{secrets.token_urlsafe(32)}"
    return key_record(text, name, role, prefix, now_ms, secrets.token_bytes(SALT_BYTES)), text


def key_record(text: str, name: str, role: KeyRole, prefix: str, now_ms: int, salt: bytes) -> ApiKey:
    """What is kept of the key that reads ``text``. Raises ``ValueError`` when it is no key."""
    parts = split_key(text)
    if parts is None:
        raise ValueError("this is no API key: one reads hf_ID_SECRET")
    return ApiKey(parts[0], name, role, prefix, salt, digest_of(salt, parts[1]), now_ms)


def split_key(text: str) -> tuple[str, str] | None:
    """(id, secret) of ``hf_ID_SECRET``; None when the text has another form."""
    head, _, rest = text.partition("_")
    number, _, secret = rest.partition("_")
    if head != "hf" or len(number) != ID_CHARS or not _ALPHABET.issuperset(number) or len(secret) != SECRET_CHARS:
        return None
    return number, secret


def digest_of(salt: bytes, secret: str) -> bytes:
    return blake2b(salt + secret.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()


def is_secret_of(key: ApiKey, secret: str) -> bool:
    """In a time that does not depend on how much of it is right."""
    return hmac.compare_digest(digest_of(key.salt, secret), key.digest)
