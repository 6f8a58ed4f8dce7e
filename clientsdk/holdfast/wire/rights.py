"""What a key may do by its role and prefix.

Routers refuse by it, a whole section at a time; SDKs ask it before they send, so that what is not allowed never takes
along what is.
"""

from __future__ import annotations

from typing import Final

from .frames import Kind, Options
from .tenants import KeyRole

LOOKING: Final = bytes([Kind.GET, Kind.CHECK, Kind.LIST, Kind.SESSIONS])
"""All that role ``read`` may do."""
FOR_ADMINS: Final = bytes([Kind.FORCE])
"""What role ``locks`` may not do, besides what :func:`takes_anothers` says."""


def takes_anothers(kind: int, options: Options) -> bool:
    """Whether only an admin may do this: end another's session, or take a lock without waiting for its holder."""
    return (kind == Kind.END and bool(options.session)) or (kind == Kind.ACQUIRE and options.now)


def is_of_session(kind: int, options: Options) -> bool:
    """Whether it ends another's session, or looks into one."""
    return bool(options.session) and kind in (Kind.END, Kind.HOLDS)


def why_not(role: str, prefix: str, kind: int, name: str, options: Options | None) -> str:
    """Why a key may not do one operation; empty when it may. A role that is not known here is left to the router."""
    if (role == KeyRole.READ and kind not in LOOKING) or (role == KeyRole.LOCKS and kind in FOR_ADMINS):
        return f"a key with role {role} may not do this"
    anothers = options is not None and takes_anothers(kind, options)
    if anothers and role == KeyRole.LOCKS:
        return "what does not wait for the holder, and the end of another's session, need role admin"
    if prefix:
        if (name or kind == Kind.LIST) and not name.startswith(prefix):
            return f"this key is for names that begin with {prefix!r}"
        if kind == Kind.SESSIONS or (options is not None and is_of_session(kind, options)):
            return f"sessions may hold more than what this key, for names that begin with {prefix!r}, may see"
    return ""
