"""Changes of tenants and keys, and notes in the audit log, on their way to the meta group."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from hashlib import blake2b
from typing import Final

import msgspec

from holdfast.wire.changes import CHANGE_ID_BYTES, Action, AuditFilter, AuditPage, Change, Changed, Note
from holdfast.wire.errors import BadMessage, Conflict, HoldfastError, OutcomeUnknown, Unavailable, error_of
from holdfast.wire.frames import Answers, Kind, Options, Status, encode
from holdfast.wire.tenants import Principal

from .asking import Asker
from .directory import Directory
from .groups import META_GROUP

CHANGE_WAIT_S: Final = 10.0
"""How long a change is tried before its outcome is called unknown, or it is refused because nobody could be reached."""
TRY_S: Final = 3.0
PAUSE_S: Final = 0.05
TEXT_MAX: Final = 256
"""Of what admins and peers say, in a note."""

Ended = Callable[[str], None]
"""Says in the audit log how what was noted has ended."""

log = logging.getLogger("holdfast.router")


class Changes:
    """``draw`` makes random bytes."""

    def __init__(self, asker: Asker, directory: Directory, draw: Callable[[int], bytes]) -> None:
        self._asker = asker
        self._directory = directory
        self._draw = draw
        self._ending: set[asyncio.Task[None]] = set()

    async def make(
        self, principal: Principal, address: str, action: Action, *, number: bytes = b"", expected: int = 0
    ) -> Changed:
        """Made once, however often it has to be sent; in force on this router when this returns.

        ``number`` is the change's id, drawn when empty. Raises what the meta group says, :class:`Unavailable` when it
        was certainly not made, :class:`OutcomeUnknown`.
        """
        number = number or self._draw(CHANGE_ID_BYTES)
        change = Change(number, principal.key, address, int(time.time() * 1000), action, expected)
        changed = await self._send(Options(change=encode(change)))
        if changed.code:
            raise error_of(changed.code, changed.message)
        await self._directory.reached(changed.version, TRY_S)
        return changed

    async def _send(self, options: Options) -> Changed:
        loop = asyncio.get_running_loop()
        ends = loop.time() + CHANGE_WAIT_S
        unknown: OutcomeUnknown | None = None
        while True:
            wait_s = min(max(ends - loop.time(), PAUSE_S), TRY_S)
            try:
                answers = await self._asker.ask(META_GROUP, 0, Kind.CHANGE, wait_s=wait_s, options=options)
                return _changed_of(answers)
            except (OutcomeUnknown, Unavailable) as error:
                if isinstance(error, OutcomeUnknown):
                    unknown = error
                if loop.time() + PAUSE_S >= ends:
                    raise unknown or error from None
            await asyncio.sleep(PAUSE_S)

    async def note(self, principal: Principal, address: str, note: Note) -> Ended:
        """Say in the audit log what is about to be done, and return what says how it ended.

        Raises when it could not be written: then it must not be done.
        """
        _, ended = await self.note_once(principal, address, note)
        return ended

    async def note_once(
        self, principal: Principal, address: str, note: Note, number: bytes = b""
    ) -> tuple[dict[int, int], Ended]:
        """As :meth:`note`, for what may be asked again under the same ``number``: also returns under which clients it
        is to be done, which are those of the first time.

        Raises :class:`Conflict` when the number was given to something else.
        """
        note = msgspec.structs.replace(note, detail=_short(note.detail), before=_short(note.before))
        changed = await self.make(principal, address, note, number=number)
        if changed.tenant != note.tenant or bool(changed.under) != bool(note.under):
            raise Conflict("this request id was used for something else: take a new one")

        def ended(outcome: str) -> None:
            after = msgspec.structs.replace(note, before={}, outcome=outcome[:TEXT_MAX])
            task = asyncio.get_running_loop().create_task(self._note_end(principal, address, after, number))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

        return changed.under, ended

    async def _note_end(self, principal: Principal, address: str, note: Note, number: bytes) -> None:
        if number:
            # Whoever asks again ends it again; the log says it once.
            number = blake2b(number, digest_size=CHANGE_ID_BYTES, person=b"outcome").digest()
        try:
            await self.make(principal, address, note, number=number)
        except HoldfastError as error:
            # The log says that it was begun; more cannot be done about it here.
            log.error("how an admin's action ended is not in the audit log", extra={"note": note, "why": str(error)})

    def close(self) -> None:
        for task in self._ending:
            task.cancel()

    async def page(self, tenant: int, below: int, limit: int, wanted: AuditFilter) -> AuditPage:
        """Of the audit log, as ``tenant`` may see it."""
        options = Options(limit=limit, change=encode(wanted))
        answers = await self._asker.ask(
            META_GROUP, 0, Kind.AUDIT, wait_s=TRY_S, lease=tenant, token=below, options=options
        )
        if answers.statuses != bytes([Status.OK]):
            raise BadMessage("the meta group does not know AUDIT: it is of an older release")
        return msgspec.convert(answers.details[0], AuditPage)


def _short(said: dict[str, str]) -> dict[str, str]:
    return {name: text[:TEXT_MAX] for name, text in said.items() if text}


def _changed_of(answers: Answers) -> Changed:
    try:
        return msgspec.convert(answers.details[0], Changed)
    except (KeyError, msgspec.ValidationError) as error:
        raise BadMessage(f"the meta group's answer is none: {error!r}") from None
