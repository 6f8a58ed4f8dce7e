"""What an administrator asks again under the same request id is done once, whatever became of the first time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from holdfast.wire.administration import BreakLock, Done, EndSession
from holdfast.wire.changes import AuditRecord, Note
from holdfast.wire.errors import Code, Conflict, HoldfastError, NotFound, OutcomeUnknown
from holdfast.wire.frames import Kind, decode_answer_list, decode_frame, encode
from holdfast.wire.limits import CLIENT_IDLE_MS
from holdfast.wire.messages import Beat, GroupRecord, Msg, Refusal
from holdfast.wire.names import slot_of
from holdfast.wire.tenants import KeyRole, Principal
from holdfast_router.asking import Asker, Question
from holdfast_router.beforehand import Beforehand
from holdfast_router.changing import Changes
from holdfast_router.directory import Directory
from holdfast_router.inspecting import Inspection
from holdfast_router.item import Item, Outcome
from holdfast_shard.machine import MetaMachine, build_entry
from tests.machine.driver import Client, Cluster
from tests.tenants import TENANT_KEY, TENANTS, meta_of

ADMIN = Principal(1, TENANT_KEY.split("_")[1], KeyRole.ADMIN)
FIRST, SECOND = b"1" * 16, b"2" * 16
SESSION = b"s" * 16


def _groups() -> list[int]:
    return [1]


def _place(tenant: int, name: str) -> tuple[int, int]:
    return 1, slot_of(tenant, name)


class Service:
    """A lock group and the meta group, as their machines, and routers before them; what is asked may be lost on its
    way, or kept back."""

    def __init__(self) -> None:
        self.locks = Cluster()
        record = meta_of(*TENANTS)
        groups = tuple(GroupRecord(number, (1,)) for number in (0, 1))
        self.meta = MetaMachine(type(record)(1, record.cluster, (), groups, record.table, record.tenants))
        self.meta.apply(1, 1, None)
        self.lost: set[int] = set()
        """Kinds that do not arrive."""
        self.late: list[bytes] = []
        """What did not arrive."""
        self._drawn = 0
        self.changes: list[Changes] = []

    def router(self) -> Inspection:
        """Another one: it knows nothing of what was asked of others."""
        loop = asyncio.get_running_loop()
        directory = Directory(loop.time)
        directory.adopt(self.meta.record)
        directory.beat(Beat(1, 1))
        asker = Asker(self._submit, loop.time)
        self.changes.append(Changes(asker, directory, self._draw))
        beforehand = Beforehand(asker, _groups, _place)
        return Inspection(asker, self.changes[-1], beforehand, _groups, _place)

    def _draw(self, size: int) -> bytes:
        self._drawn += 1
        return self._drawn.to_bytes(size, "big")

    def _submit(self, group: int, item: Item) -> None:
        assert isinstance(item.caller, Question)
        frame = b"\x91" + item.body
        (stamped,) = decode_frame(frame)
        if self.lost & set(stamped.section.kinds):
            self.late.append(frame)
            item.caller.settle(Outcome(item, None, Refusal(Code.OUTCOME_UNKNOWN, "the router died")))
            return
        if item.kind == Msg.READ:
            (answers,) = decode_answer_list(self.locks.machine.read(frame))
            item.caller.settle(Outcome(item, encode(answers)))
            return
        item.caller.settle(Outcome(item, encode(self.apply(group, frame))))

    def apply(self, group: int, frame: bytes) -> object:
        if group == 1:
            result = self.locks.entry(frame)
        else:
            result = self.meta.apply(self.meta.applied_index + 1, 1, build_entry(1, 10, [frame]))
        (answers,) = decode_answer_list(result.answers[0])
        return answers

    async def audit(self) -> list[AuditRecord]:
        """All there is, once what is on its way has arrived."""
        while any(changes._ending for changes in self.changes):
            await asyncio.sleep(0)
        return list(self.meta.tenancy.audit.tail)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    made = Service()
    yield made
    for changes in made.changes:
        changes.close()


@pytest.fixture
def one(service: Service) -> Client:
    return service.locks.client()


@pytest.fixture
def two(service: Service) -> Client:
    return service.locks.client()


async def broken(router: Inspection, number: bytes, name: str = "a") -> Done:
    return await router.break_lock(ADMIN, "a:1", TENANTS[1], BreakLock(name, now=True), number)


async def ended(router: Inspection, number: bytes) -> Done:
    return await router.end_session(ADMIN, "a:1", TENANTS[1], EndSession(SESSION.hex()), number)


async def test_a_lock_is_broken_once_and_its_next_holder_keeps_it(service: Service, one: Client, two: Client) -> None:
    one.acquire("a")
    assert await broken(service.router(), FIRST) == Done("a")
    token = two.acquire("a").token
    assert await broken(service.router(), FIRST) == Done("a")
    assert two.check("a", token)
    records = await service.audit()
    assert [record.before for record in records] == [{"holders": "token 1 exclusive", "waiters": "0"}, {}]
    assert [(record.action, record.after) for record in records] == [
        ("lock.break", {"now": "yes"}), ("lock.break", {"now": "yes", "outcome": "done"}),
    ]  # fmt: skip
    assert await broken(service.router(), SECOND) == Done("a")
    assert not two.check("a", token), "that was asked anew"


async def test_one_that_was_not_held_is_not_broken_later(service: Service, one: Client) -> None:
    for _ in range(2):
        with pytest.raises(NotFound, match="not held"):
            await broken(service.router(), FIRST)
        one.acquire("a")
    assert service.locks.machine.counts()["held"] == 1


async def test_what_was_noted_and_never_done_is_done_when_asked_again(
    service: Service, one: Client, two: Client
) -> None:
    one.acquire("a")
    service.lost = {Kind.FORCE}
    with pytest.raises(OutcomeUnknown):
        await broken(service.router(), FIRST)
    service.lost = set()
    assert await broken(service.router(), FIRST) == Done("a")
    token = two.acquire("a").token
    (late,) = service.late
    service.apply(1, late)
    assert await broken(service.router(), FIRST) == Done("a")
    assert two.check("a", token), "neither the first, which came late, nor the third broke it"


async def test_a_session_is_ended_once_and_answered_as_at_first(service: Service, one: Client, two: Client) -> None:
    one.open(SESSION, ttl=1000)
    assert await ended(service.router(), FIRST) == Done(SESSION.hex())
    assert (await service.audit())[0].before == {"locks": "0", "waiting": "0"}
    service.locks.pass_time(1000)
    two.open(SESSION)
    assert await ended(service.router(), FIRST) == Done(SESSION.hex())
    assert [row[0] for row in two.look(Kind.SESSIONS).detail[0]] == [SESSION]
    assert two.keepalive(1).status == 0, "one that was opened anew under the same id goes on"
    assert await ended(service.router(), SECOND) == Done(SESSION.hex())


async def test_an_id_is_of_one_request(service: Service, one: Client) -> None:
    one.acquire("a")
    router = service.router()
    note = await service.changes[0].note(ADMIN, "a:1", Note(1, "lock.break", "b"))
    note("done")
    used = next(iter(service.meta.tenancy._answers))
    with pytest.raises(Conflict, match="take a new one"):
        await broken(router, used)
    assert service.locks.machine.counts()["held"] == 1


async def test_what_is_asked_again_after_its_client_was_forgotten_has_an_unknown_outcome(
    service: Service, one: Client
) -> None:
    one.acquire("a")
    await broken(service.router(), FIRST)
    service.locks.pass_time(CLIENT_IDLE_MS)
    service.locks.client().acquire("a")
    with pytest.raises(HoldfastError) as caught:
        await broken(service.router(), FIRST)
    assert type(caught.value) is OutcomeUnknown
    assert service.locks.machine.counts()["held"] == 1
