"""How what an administrator is about to take away looks beforehand, for the audit log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from holdfast.wire.errors import HoldfastError
from holdfast.wire.frames import HolderView, Kind, LockView, Mode, Options, SessionPage
from holdfast.wire.limits import SESSION_ID_BYTES

from .asking import Asker, detail_of

LOOK_S: Final = 1.0
"""A group that does not say in this time how something looks is not waited for: what is to be done to it may haste."""
HOLDERS_MAX: Final = 4
"""Of one lock that a look names; of more it says how many."""

Look = dict[str, str]


class Beforehand:
    """``groups``: those that hold locks. ``place``: (group, slot) of a tenant's lock name. Looks raise nothing: why one
    failed stands in it."""

    def __init__(
        self, asker: Asker, groups: Callable[[], list[int]], place: Callable[[int, str], tuple[int, int]]
    ) -> None:
        self._asker = asker
        self._groups = groups
        self._place = place

    async def lock(self, tenant: int, name: str) -> Look:
        try:
            group, slot = self._place(tenant, name)
            answers = await self._asker.ask(group, tenant, Kind.GET, wait_s=LOOK_S, slot=slot, name=name)
            view = detail_of(answers, LockView)
        except HoldfastError as error:
            return _unseen(error)
        shown = [_holder(holder) for holder in view.holders[:HOLDERS_MAX]]
        if view.held > len(shown):
            shown.append(f"{view.held - len(shown)} more")
        return {"holders": ", ".join(shown) or "none", "waiters": str(view.waiters)}

    async def session(self, tenant: int, session: bytes) -> Look:
        """What it holds and waits for in all groups."""
        # One page of one row, after the id before it.
        after = max(int.from_bytes(session, "big") - 1, 0).to_bytes(SESSION_ID_BYTES, "big")
        options = Options(cursor=after.hex() if any(session) else "", limit=1)
        parts = []
        try:
            for answers in await asyncio.gather(
                *(
                    self._asker.ask(group, tenant, Kind.SESSIONS, wait_s=LOOK_S, options=options)
                    for group in self._groups()
                )
            ):
                parts += [view for view in detail_of(answers, SessionPage).sessions if view.session == session]
        except HoldfastError as error:
            return _unseen(error)
        if not parts:
            return {"locks": "none", "waiting": "0"}
        held, waiting = (sum(counts) for counts in zip(*((view.held, view.waiting) for view in parts), strict=True))
        return {"locks": str(held), "waiting": str(waiting), "metadata": parts[0].metadata.decode(errors="replace")}


def together(looks: Mapping[str, Look]) -> Look:
    """Of several things, by what they are called."""
    if len(looks) == 1:
        return next(iter(looks.values()))
    fields = dict.fromkeys(field for look in looks.values() for field in look)
    return {
        field: "; ".join(f"{target}: {look[field]}" for target, look in looks.items() if field in look)
        for field in fields
    }


def _unseen(error: HoldfastError) -> Look:
    return {"not seen": str(error)}


def _holder(view: HolderView) -> str:
    metadata = view.metadata.decode(errors="replace")
    return f"token {view.token} {Mode(view.mode).name.lower()}{f' ({metadata})' if metadata else ''}"
