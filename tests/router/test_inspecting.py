"""Ending a session where some groups cannot be asked."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from holdfast.core.client import ClientCore
from holdfast.wire.administration import EndSession, ListLocks
from holdfast.wire.changes import Note
from holdfast.wire.errors import HoldfastError, InvalidArgument, NotFound, OutcomeUnknown, Unavailable
from holdfast.wire.frames import Answers, Kind, Options, Status
from holdfast.wire.tenants import KeyRole, Principal
from holdfast_router.asking import Asker
from holdfast_router.beforehand import Beforehand
from holdfast_router.changing import Changes
from holdfast_router.inspecting import Inspection
from holdfast_router.operations import sessions
from holdfast_router.operations.leases import Answer
from tests.tenants import key_of, key_text, tenant_of

OK, GONE, SILENT = int(Status.OK), int(Status.LEASE_ENDED), -1


class Groups:
    """Groups 1, 2, ... that answer an END so; one that is silent answers nothing."""

    def __init__(self, *ends: int) -> None:
        self.ends = ends
        self.asked: list[int] = []
        self.noted = ""

    async def ask(self, group: int, tenant: int, kind: Kind, **rest: Any) -> Answers:
        end = self.ends[group - 1]
        if end == SILENT:
            raise Unavailable("no leader")
        if kind == Kind.END:
            self.asked.append(group)
        return Answers(bytes([OK if kind == Kind.REGISTER else end]), [1], [0], {})

    async def note_once(self, principal: Principal, address: str, note: Note, number: bytes) -> Any:
        return note.under, lambda outcome: setattr(self, "noted", outcome)

    @property
    def inspection(self) -> Inspection:
        return Inspection(
            cast(Asker, self),
            cast(Changes, self),
            Beforehand(cast(Asker, self), list, lambda tenant, name: (1, 0)),
            lambda: list(range(1, len(self.ends) + 1)),
            lambda tenant, name: (1, 0),
        )

    async def end(self) -> None:
        text = key_text("admin")
        principal = Principal(1, "admin", KeyRole.ADMIN)
        await self.inspection.end_session(principal, "", tenant_of(1, key_of(text)), EndSession("00" * 16), b"")


@pytest.mark.parametrize(
    ("ends", "error"),
    [
        ((OK, GONE), None),
        ((GONE, GONE), NotFound),
        ((SILENT, GONE), Unavailable),
        ((OK, SILENT), OutcomeUnknown),
        ((SILENT, OK), OutcomeUnknown),
    ],
)
async def test_a_session_is_ended_wherever_it_can_be_and_never_said_to_be_untouched_when_it_was_not(
    ends: tuple[int, ...], error: type[HoldfastError] | None
) -> None:
    groups = Groups(*ends)
    if error is None:
        await groups.end()
        assert groups.noted == "done"
    else:
        with pytest.raises(error) as caught:
            await groups.end()
        assert type(caught.value) is error
        assert groups.noted == str(caught.value)
    assert groups.asked == [number for number, end in enumerate(ends, 1) if end != SILENT]


@pytest.mark.parametrize(
    ("kind", "ends", "error"),
    [
        (Kind.END, (OK, SILENT), OutcomeUnknown),
        (Kind.END, (SILENT, OK), OutcomeUnknown),
        (Kind.END, (GONE, SILENT), Unavailable),
        (Kind.KEEPALIVE, (OK, SILENT), Unavailable),
    ],
)
async def test_nor_is_it_by_another_front(
    monkeypatch: pytest.MonkeyPatch, kind: Kind, ends: tuple[int, ...], error: type[HoldfastError]
) -> None:
    async def ask(core: object, kind: Kind, *, options: Options, group: int, ttl_ms: int) -> Answer:
        if ends[group] == SILENT:
            raise Unavailable("no leader")
        return Answer(ends[group], 0, 0.0, None)

    monkeypatch.setattr(sessions, "ask", ask)
    core = SimpleNamespace(all_groups=lambda: range(len(ends)))
    with pytest.raises(error) as caught:
        await sessions._everywhere(cast(ClientCore, core), kind, Options(), 0)
    assert type(caught.value) is error


LONG = "9" * 5000
"""More digits than Python takes for a number."""


@pytest.mark.parametrize("cursor", ["a", "a/", "3/", "-1/", f"{LONG}/"])
async def test_a_cursor_that_no_list_gave_is_refused(cursor: str) -> None:
    groups = Groups(OK, OK)
    with pytest.raises(InvalidArgument, match="cursor"):
        await groups.inspection.locks(tenant_of(1), ListLocks(cursor=cursor))
    assert groups.asked == []


@pytest.mark.parametrize("seen", ["a", "1", "1:", ":1", "1:-1", "1:1,", f"1:{LONG}", f"{LONG}:1"])
def test_what_no_keepalive_told_was_seen_by_nobody(seen: str) -> None:
    with pytest.raises(InvalidArgument, match="seen"):
        sessions._changes_of(seen)
