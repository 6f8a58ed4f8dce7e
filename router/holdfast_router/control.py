"""The control plane of a router, put together: administrators' requests, and the noting of what admins do by stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec

from holdfast.wire.administration import LOOKS, decode_call
from holdfast.wire.changes import Note
from holdfast.wire.errors import Code, HoldfastError, InvalidArgument, Throttled, Unavailable
from holdfast.wire.frames import Kind, Section, Status, decode_answers, encode
from holdfast.wire.messages import Msg, Refusal, refusal_of
from holdfast.wire.names import slot_of
from holdfast.wire.rights import takes_anothers
from holdfast.wire.tenants import Principal

from .administration import Administration
from .admission.pace import Pace
from .asking import Asker
from .beforehand import Beforehand, Look, together
from .changing import Changes
from .directory import Directory
from .downstream import Downstream
from .groups import META_GROUP
from .inspecting import Inspection
from .item import Item, Outcome

TASKS_MAX: Final = 1024
"""Administrators' requests by stream and noted sections under way on one router; beyond, no section is noted."""
SHOWN_MAX: Final = 8
"""Operations of one section that a note names; of more it says how many."""
NOTE_S: Final = 5.0
"""How long what another front is asked to do waits for its note."""
Ended = Callable[[str], object]
BUSY = Refusal(Code.OVERLOADED, f"{TASKS_MAX} requests of administrators are under way", 1000)


class Control:
    """``submit`` gives an item to its group, ``deliver`` an outcome to its caller; ``draw`` makes random bytes."""

    def __init__(
        self,
        directory: Directory,
        *,
        submit: Callable[[int, Item], None],
        deliver: Callable[[int, Outcome], None],
        draw: Callable[[int], bytes],
    ) -> None:
        self._directory = directory
        self._deliver = deliver
        self._asker = Asker(submit, asyncio.get_running_loop().time)
        self._changes = Changes(self._asker, directory, draw)
        self._pace = Pace(directory.quotas, asyncio.get_running_loop().time)
        self._beforehand = Beforehand(self._asker, self._groups, self._place)
        inspection = Inspection(self._asker, self._changes, self._beforehand, self._groups, self._place)
        self.administration = Administration(directory, self._changes, inspection, self._pace)
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        self._changes.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def on_call(self, caller: Downstream, request: int, body: bytes) -> None:
        """An ADMIN message."""
        caller.asked()
        assert caller.principal is not None, "only who was welcomed asks"
        self._start(self._answer(caller, request, body))

    async def _answer(self, caller: Downstream, request: int, body: bytes) -> None:
        assert caller.principal is not None, "only who was welcomed asks"
        changes = False
        try:
            call = decode_call(body)
            if changes := not isinstance(call.request, LOOKS):
                caller.changing += 1
            result = await self.administration.execute(caller.principal, call.request, caller.connection.peer, call.id)
        except msgspec.DecodeError as error:
            _reply(caller, request, Msg.REFUSED, Refusal(Code.BAD_MESSAGE, f"this is no request: {error}"))
        except HoldfastError as error:
            _reply(caller, request, Msg.REFUSED, refusal_of(error))
        else:
            _reply(caller, request, Msg.ADMIN, result)
        finally:
            if changes:
                caller.changed()

    async def note(self, principal: Principal, address: str, action: str, name: str, reason: str) -> Ended:
        """Say in the audit log what is about to be done to a lock, and with what is returned how it ended.

        Raises :class:`Unavailable` when it cannot be noted, and :class:`Throttled`: then it is not to be done.
        """
        self._pace.check(principal.tenant)
        try:
            async with asyncio.timeout(NOTE_S):
                before = await self._beforehand.lock(principal.tenant, name)
                note = Note(principal.tenant, action, name, {"reason": reason}, before=before)
                return await self._changes.note(principal, address, note)
        except (HoldfastError, TimeoutError) as error:
            raise Unavailable(_unnoted(error)) from None

    def carry_noted(self, group: int, item: Item, section: Section, wait_s: float) -> None:
        """Send a section in which an admin takes what is others', once the audit log says so; say there how it ended.

        What cannot be noted is refused.
        """
        caller = item.caller
        assert isinstance(caller, Downstream)
        assert caller.principal is not None
        if len(self._tasks) >= TASKS_MAX:
            self._deliver(group, Outcome(item, None, BUSY))
            return
        try:
            self._pace.check(caller.principal.tenant)
        except Throttled as error:
            self._deliver(group, Outcome(item, None, refusal_of(error)))
        else:
            self._start(self._noted(group, item, caller, caller.principal, section, wait_s))

    async def _noted(
        self, group: int, item: Item, caller: Downstream, principal: Principal, section: Section, wait_s: float
    ) -> None:
        acts = acts_of(section)
        action, target = _named(section, acts)
        detail = {"reason": next((text for at in acts if (text := _reason(section, at))), "")}
        loop = asyncio.get_running_loop()
        ends = loop.time() + wait_s
        try:
            async with asyncio.timeout(wait_s):
                before = await self._looks(principal.tenant, section, acts)
                note = Note(principal.tenant, action, target, detail, before=before)
                ended = await self._changes.note(principal, caller.connection.peer, note)
        except (HoldfastError, TimeoutError) as error:
            self._deliver(group, Outcome(item, None, refusal_of(Unavailable(_unnoted(error)))))
            return
        outcome = await self._asker.carry(group, item, max(ends - loop.time(), 0.0))
        self._deliver(group, Outcome(item, outcome.answers, outcome.refusal))
        ended(_ending(outcome, acts))

    async def _looks(self, tenant: int, section: Section, acts: list[int]) -> Look:
        """At what the first of them are about to take."""
        looks: dict[str, Coroutine[Any, Any, Look]] = {}
        for at in acts[:SHOWN_MAX]:
            target = _target(section, at)
            if target in looks:
                continue
            if section.kinds[at] == Kind.END:
                looks[target] = self._beforehand.session(tenant, section.options[at].session)
            else:
                looks[target] = self._beforehand.lock(tenant, section.names[at])
        return together(dict(zip(looks, await asyncio.gather(*looks.values()), strict=True)))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="control")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _groups(self) -> list[int]:
        record = self._directory.record
        return sorted(group.group for group in record.groups if group.group != META_GROUP) if record is not None else []

    def _place(self, tenant: int, name: str) -> tuple[int, int]:
        record = self._directory.record
        if record is None:
            raise InvalidArgument("the slot table is not known yet")
        slot = slot_of(tenant, name)
        return int.from_bytes(record.table.groups[2 * slot : 2 * slot + 2], "little"), slot


def acts_of(section: Section) -> list[int]:
    """Positions of operations that take what is others' as only an admin may."""
    kinds = section.kinds
    found = [at for at, kind in enumerate(kinds) if kind == Kind.FORCE] if Kind.FORCE in kinds else []
    for at, options in section.options.items():
        if 0 <= at < len(kinds) and takes_anothers(kinds[at], options):
            found.append(at)
    return found


def _named(section: Section, acts: list[int]) -> tuple[str, str]:
    """What is done, and to what."""
    shown = [_target(section, at) for at in acts[:SHOWN_MAX]]
    more = f" and {len(acts) - SHOWN_MAX} more" if len(acts) > SHOWN_MAX else ""
    kinds = {Kind(section.kinds[at]) for at in acts}
    words = {Kind.FORCE: "lock.break", Kind.END: "session.end", Kind.ACQUIRE: "lock.steal"}
    return "+".join(sorted(words[kind] for kind in kinds)), ", ".join(shown) + more


def _target(section: Section, at: int) -> str:
    options = section.options.get(at)
    return section.names[at] or (options.session.hex() if options is not None else "")


def _unnoted(error: Exception) -> str:
    return f"not done, for it could not be written to the audit log: {str(error) or 'no answer in time'}"


def _reason(section: Section, at: int) -> str:
    options = section.options.get(at)
    return options.reason if options is not None else ""


def _ending(outcome: Outcome, acts: list[int]) -> str:
    if outcome.answers is None:
        return outcome.refusal.message if outcome.refusal is not None else ""
    statuses = decode_answers(outcome.answers).statuses
    ends = [Status(statuses[at]).name.lower() if at < len(statuses) else "unknown" for at in acts]
    return ", ".join(sorted({"done" if end in ("ok", "queued") else end.replace("_", " ") for end in ends}))


def _reply(caller: Downstream, request: int, kind: Msg, body: object) -> None:
    caller.answered()
    caller.connection.send(kind, 0, request, encode(body))
