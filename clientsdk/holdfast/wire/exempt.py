"""What is never refused for load: what holders need to keep, learn of, or let go of what they have.

One rule for all who ask it: SDKs, which send the exempt apart from what was refused, and in routers the gate and the
groups' queues.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .frames import Kind, Options

EXEMPT: Final = bytes([Kind.RELEASE, Kind.RENEW, Kind.KEEPALIVE, Kind.CANCEL, Kind.END, Kind.HOLDS, Kind.TICKETS])
"""Kinds of which operations are exempt: all but an END that says a session's id, for that is another's; from a router
that has seen by what stands for the session that it is its caller's own (``vouched``), all."""


def is_exempt(kind: int, options: Options | None, *, vouched: bool = False) -> bool:
    """Whether one operation is exempt."""
    return kind in EXEMPT and (vouched or not (kind == Kind.END and options is not None and options.session))


def all_exempt(kinds: bytes, options: Mapping[int, Options], *, vouched: bool = False) -> bool:
    """Whether a section has nothing but exempt operations. ``options`` by position, as they came: unchecked."""
    if kinds.translate(None, EXEMPT):
        return False
    return (
        vouched
        or not options
        or not any(0 <= at < len(kinds) and not is_exempt(kinds[at], given) for at, given in options.items())
    )
