"""A router's way to the meta group: a change is made once and waited for, and what cannot be noted is not done."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from holdfast.wire.changes import Change, Changed, Note, SuspendTenant, decode_change
from holdfast.wire.errors import Code, Conflict, HoldfastError, OutcomeUnknown, Unavailable
from holdfast.wire.frames import Kind, Options, Section, decode_frame, encode
from holdfast.wire.messages import Beat, Refusal
from holdfast.wire.tenants import KeyRole, Principal
from holdfast_router import changing
from holdfast_router.asking import Asker, Question
from holdfast_router.changing import Changes
from holdfast_router.control import acts_of
from holdfast_router.directory import Directory
from holdfast_router.item import Item, Outcome
from tests.tenants import meta_of

RULER = Principal(0, "operatoraaaa", KeyRole.ADMIN)


class Meta:
    """The meta group: answers what it gets as it is told to, one after the other."""

    def __init__(self, *replies: Changed | Refusal) -> None:
        self.replies = list(replies)
        self.got: list[Change] = []
        self.directory = Directory(asyncio.get_running_loop().time)
        self.directory.adopt(meta_of())
        self.directory.beat(Beat(1, 1))
        self.changes = Changes(Asker(self._submit, asyncio.get_running_loop().time), self.directory, self._draw)
        self._drawn = 0

    def _draw(self, size: int) -> bytes:
        self._drawn += 1
        return self._drawn.to_bytes(size, "big")

    def _submit(self, group: int, item: Item) -> None:
        (stamped,) = decode_frame(b"\x91" + item.body)
        assert (group, stamped.tenant, stamped.section.kinds) == (0, 0, bytes([Kind.CHANGE]))
        assert item.deadline > item.arrived > 0
        self.got.append(decode_change(stamped.section.options[0].change))
        reply = self.replies.pop(0)
        refusal = reply if isinstance(reply, Refusal) else None
        answers = None if refusal else encode([b"\x00", [0], [0], {0: reply}])
        assert isinstance(item.caller, Question)
        item.caller.settle(Outcome(item, answers, refusal))

    async def make(self, number: bytes = b"") -> Changed:
        return await self.changes.make(RULER, "10.0.0.1:5", SuspendTenant("tenant1"), number=number)


UNKNOWN, NO_LEADER = Refusal(Code.OUTCOME_UNKNOWN, "unknown"), Refusal(Code.UNAVAILABLE, "no leader")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changing, "PAUSE_S", 0.001)
    monkeypatch.setattr(changing, "TRY_S", 0.1)


async def test_a_change_whose_outcome_is_unknown_is_sent_again_as_the_same() -> None:
    meta = Meta(UNKNOWN, NO_LEADER, Changed(1, 1))
    assert await meta.make() == Changed(1, 1)
    assert len({(change.id, change.when_ms, change.key, change.address) for change in meta.got}) == 1
    assert len(meta.got) == 3


async def test_what_the_group_refuses_is_raised_as_it_is_and_not_tried_again() -> None:
    meta = Meta(Changed(0, 0, int(Code.CONFLICT), "no"))
    with pytest.raises(Conflict, match="no"):
        await meta.make()
    assert len(meta.got) == 1


@pytest.mark.parametrize(("replies", "kind"), [([NO_LEADER] * 50, Unavailable), ([UNKNOWN] * 50, OutcomeUnknown)])
async def test_in_the_end_it_is_said_whether_anything_may_have_happened(
    monkeypatch: pytest.MonkeyPatch, replies: list[Refusal], kind: type[HoldfastError]
) -> None:
    monkeypatch.setattr(changing, "CHANGE_WAIT_S", 0.02)
    with pytest.raises(kind):
        await Meta(*replies).make()
    mixed = Meta(UNKNOWN, *[NO_LEADER] * 50)
    with pytest.raises(OutcomeUnknown):
        await mixed.make()


async def test_it_returns_when_the_change_is_known_here() -> None:
    meta = Meta(Changed(2, 1), Changed(9, 1))
    made = asyncio.create_task(meta.make())
    await asyncio.sleep(0.01)
    assert not made.done()
    meta.directory.adopt(meta_of(version=2))
    assert (await made).version == 2
    with pytest.raises(OutcomeUnknown, match="was made"):
        await meta.make()


async def test_the_callers_id_is_used_and_each_other_change_has_its_own() -> None:
    meta = Meta(*[Changed(1, 1)] * 3)
    await meta.make(b"i" * 16)
    await meta.make()
    await meta.make()
    ids = [change.id for change in meta.got]
    assert ids[0] == b"i" * 16
    assert len(set(ids)) == 3


async def test_a_note_is_written_before_and_its_end_after() -> None:
    meta = Meta(Changed(1, 1), NO_LEADER, Changed(1, 1))
    ended = await meta.changes.note(
        RULER, "a:1", Note(1, "lock.break", "name", {"reason": "r" * 500, "token": ""}, before={"holders": "h" * 500})
    )
    first = Note(1, "lock.break", "name", {"reason": "r" * 256}, before={"holders": "h" * 256})
    assert meta.got[0].action == first
    ended("done")
    async with asyncio.timeout(5):
        while len(meta.got) < 3:
            await asyncio.sleep(0.001)
    assert meta.got[2].action == replace(first, before={}, outcome="done")
    assert meta.got[1].id == meta.got[2].id != meta.got[0].id


async def test_what_cannot_be_noted_raises() -> None:
    meta = Meta(Changed(0, 0, int(Code.FORBIDDEN), "this key was revoked"))
    with pytest.raises(HoldfastError, match="revoked"):
        await meta.changes.note(RULER, "a:1", Note(1, "lock.break", "name"))


def test_what_takes_others_locks_is_found_in_a_section_and_nothing_else_is() -> None:
    kinds = bytes([Kind.ACQUIRE, Kind.FORCE, Kind.END, Kind.END, Kind.ACQUIRE, Kind.OPEN])
    n = len(kinds)
    another, now = Options(session=bytes(16)), Options(now=True)
    options = {0: Options(steal=True), 3: another, 4: now, 5: another, 99: now}
    section = Section(1, 1, kinds, [1] * n, [""] * n, [0] * n, [0] * n, [0] * n, [0] * n, options)
    assert acts_of(section) == [1, 3, 4]
