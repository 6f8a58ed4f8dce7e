"""Rows of the lock machine as callers are shown them."""

from __future__ import annotations

import base64
from typing import Final, Literal

from holdfast.wire.frames import HolderView, LockView, Mode, Reason, SessionView

from .requests import Holder, LockState, SessionState

ModeName = Literal["exclusive", "shared", "permits"]
_MODES: Final[dict[int, ModeName]] = {
    int(Mode.EXCLUSIVE): "exclusive",
    int(Mode.SHARED): "shared",
    int(Mode.PERMITS): "permits",
}
MODES: Final = {name: mode for mode, name in _MODES.items()}


def lock_state(view: LockView) -> LockState:
    return LockState(
        name=view.name,
        held=view.held > 0,
        holder_count=view.held,
        waiters=view.waiters,
        capacity=view.capacity,
        closed_ms=view.closed_ms,
        holders=[_holder(holder) for holder in view.holders],
    )


def _holder(view: HolderView) -> Holder:
    text, encoded = _metadata(view.metadata)
    return Holder(
        token=view.token,
        mode=_MODES.get(view.mode, "exclusive"),
        permits=view.permits,
        session_id=view.session.hex(),
        metadata=text,
        metadata_base64=encoded,
        held_ms=view.held_ms,
        remaining_ms=view.remaining_ms,
        why=view.why,
        leaving=Reason(view.leaving).name.lower() if view.leaving else "",
        count=view.count,
    )


def session_state(view: SessionView, group: int) -> SessionState:
    metadata, encoded = _metadata(view.metadata)
    return SessionState(
        id=view.session.hex(),
        group=group,
        ttl_ms=view.ttl_ms,
        remaining_ms=view.remaining_ms,
        held=view.held,
        waiting=view.waiting,
        metadata=metadata,
        metadata_base64=encoded,
    )


def _metadata(data: bytes) -> tuple[str, str]:
    """(text, "") or, when it is no UTF-8, ("", base64)."""
    try:
        return data.decode(), ""
    except UnicodeDecodeError:
        return "", base64.b64encode(data).decode()
