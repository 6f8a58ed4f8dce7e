"""What callers pass, checked before anything is sent."""

from __future__ import annotations

from typing import Final

from holdfast.errors import InvalidArgument
from holdfast.wire.frames import Mode, Options
from holdfast.wire.limits import (
    LOCK_DELAY_MS_MAX,
    METADATA_BYTES_MAX,
    NAME_BYTES_MAX,
    PERMITS_MAX,
    REASON_BYTES_MAX,
    TOKEN_MAX,
    TTL_MS_MAX,
    TTL_MS_MIN,
    WAIT_MS_MAX,
)

_TTL_S_MIN: Final = TTL_MS_MIN / 1000
_TTL_S_MAX: Final = TTL_MS_MAX / 1000


def ttl_ms_of(ttl: float) -> int:
    """Whole milliseconds of a TTL of 0.1 s to 24 h."""
    # Compared before it is rounded, which NaN and infinity cannot be.
    if not _TTL_S_MIN <= ttl <= _TTL_S_MAX:
        raise InvalidArgument(f"ttl is {_TTL_S_MIN:g} to {_TTL_S_MAX:.0f} seconds, not {ttl}")
    return round(ttl * 1000)


def wait_ms_of(wait: float | None) -> int:
    """Whole milliseconds; None is the longest wait there is, 24 h."""
    if wait is None:
        return WAIT_MS_MAX
    if not 0 <= wait <= WAIT_MS_MAX / 1000:
        raise InvalidArgument(f"wait is None or 0 to {WAIT_MS_MAX // 1000} seconds, not {wait}")
    return max(round(wait * 1000), 1) if wait else 0


def metadata_of(metadata: bytes | str) -> bytes:
    if not isinstance(metadata, bytes | str):
        raise InvalidArgument(f"metadata is bytes or text, not {type(metadata).__name__}")
    data = _utf8(metadata, "metadata") if isinstance(metadata, str) else metadata
    if len(data) > METADATA_BYTES_MAX:
        raise InvalidArgument(f"metadata has at most {METADATA_BYTES_MAX} bytes; this has {len(data)}")
    return data


def token_of(token: int) -> int:
    if not 0 <= token <= TOKEN_MAX:
        raise InvalidArgument(f"a token is 0 to {TOKEN_MAX}, not {token}")
    return token


def prefix_of(prefix: str) -> str:
    if len(_utf8(prefix, "a prefix")) > NAME_BYTES_MAX:
        raise InvalidArgument(f"a prefix has at most {NAME_BYTES_MAX} bytes as UTF-8")
    return prefix


def _utf8(text: str, what: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"{what} must be text that UTF-8 can hold: {error.reason}") from None


def reason_of(reason: str) -> str:
    if len(_utf8(reason, "a reason")) > REASON_BYTES_MAX:
        raise InvalidArgument(f"a reason has at most {REASON_BYTES_MAX} bytes as UTF-8")
    return reason


def options_of(
    *,
    shared: bool = False,
    metadata: bytes | str = b"",
    lock_delay: float = 0.0,
    reentrant: bool = False,
    permits: int = 0,
    capacity: int = 0,
) -> Options | None:
    """None when everything is as the service assumes it anyway."""
    if not (shared or metadata or lock_delay or reentrant or capacity):
        return None
    if not 0 <= lock_delay <= LOCK_DELAY_MS_MAX / 1000:
        raise InvalidArgument(f"lock_delay is 0 to {LOCK_DELAY_MS_MAX // 1000} seconds, not {lock_delay}")
    options = Options(metadata=metadata_of(metadata), lock_delay_ms=round(lock_delay * 1000), reentrant=reentrant)
    if capacity:
        if not 1 <= permits <= capacity <= PERMITS_MAX:
            raise InvalidArgument(f"permits is 1 to capacity, and capacity at most {PERMITS_MAX}")
        options.mode, options.permits, options.capacity = int(Mode.PERMITS), permits, capacity
    elif shared:
        options.mode = int(Mode.SHARED)
    return options
