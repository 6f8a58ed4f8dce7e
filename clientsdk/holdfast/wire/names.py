"""Lock names, tags and slots."""

from __future__ import annotations

import re
from zlib import crc32

from holdfast.wire.errors import InvalidName
from holdfast.wire.limits import NAME_BYTES_MAX, SLOTS

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SLOT_MASK = SLOTS - 1


def check_name(name: str) -> None:
    """Raise :class:`InvalidName` unless ``name`` is 1 to 512 bytes of UTF-8 without control characters."""
    if type(name) is not str or not name:
        raise InvalidName("a lock name is a non-empty string")
    # Four bytes is the longest a code point gets: most names need no encoding to be measured.
    if len(name) * 4 > NAME_BYTES_MAX or not name.isprintable():
        try:
            size = len(name.encode())
        except UnicodeEncodeError:
            raise InvalidName("a lock name has to be encodable as UTF-8 (it holds a lone surrogate)") from None
        if size > NAME_BYTES_MAX:
            raise InvalidName(f"a lock name has at most {NAME_BYTES_MAX} bytes as UTF-8; this one has {size}")
        if _CONTROL.search(name):
            raise InvalidName("a lock name holds no control characters")


def tag_of(name: str) -> str:
    """What of ``name`` is hashed: the text between the first ``{`` and the next ``}`` if any, else all of it.

    Redis Cluster's hash tags: names of one tag live in one slot.
    """
    start = name.find("{")
    if start >= 0:
        end = name.find("}", start + 1)
        if end > start + 1:
            return name[start + 1 : end]
    return name


def slot_of(tenant: int, name: str) -> int:
    """The slot, 0 to 4095, of a tenant's lock name. ``name`` must have passed :func:`check_name`."""
    if "{" in name:
        name = tag_of(name)
    return crc32(name.encode(), tenant) & _SLOT_MASK
