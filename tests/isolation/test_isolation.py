"""One tenant tries to observe another in every way there is."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

import holdfast
from holdfast.address import parse_url
from holdfast.cluster import fetch_status
from holdfast.errors import InvalidLockID, LockTimeout, NotHeld
from holdfast.wire.errors import Unauthenticated
from holdfast.wire.frames import Answers, Kind, Options, Section, Status, encode
from holdfast.wire.lockid import LockID
from holdfast.wire.messages import Msg
from holdfast.wire.sealing import seal_key
from holdfast_router.directory import Directory
from tests.router.test_process import OTHER_KEY, Sdk, Service
from tests.tenants import key_of, key_text, meta_of, tenant_of

from .conftest import Two

ABSENT = "never-held"


async def test_the_same_name_is_another_lock(two: Two) -> None:
    async with two.mine.lock("deploy") as mine:
        assert not (await two.theirs.get("deploy")).held
        async with two.theirs.lock("deploy", wait=0):
            assert await two.mine.check(mine.id)
        assert mine.held


async def test_lists_and_sessions_show_ones_own(two: Two) -> None:
    async with two.mine.session(metadata="secret plan") as session, two.mine.lock("list/a", session=session):
        assert [lock.name async for lock in two.theirs.list("list/")] == []
        assert [each async for each in two.theirs.sessions()] == []
        assert [lock.name async for lock in two.mine.list("list/")] == ["list/a"]


async def told(call: Callable[..., Awaitable[bool | None]], *given: Any, **options: Any) -> tuple[type, str]:
    with pytest.raises(holdfast.HoldfastError) as caught:
        await call(*given, **options)
    return type(caught.value), str(caught.value)


async def test_what_others_hold_is_told_as_what_nobody_holds(two: Two) -> None:
    """Error and message are those of the absent, but for the name that was asked for."""
    session = two.mine.session()
    async with session, two.mine.lock("theirs", session=session) as lock:
        for options in ({}, {"token": lock.token}):
            foreign = await told(two.theirs.force_release, "theirs", **options)
            absent = await told(two.theirs.force_release, ABSENT, **options)
            assert (foreign[0], foreign[1].replace("theirs", ABSENT)) == (NotHeld, absent[1])
        none = "ff" * 16
        foreign, absent = await told(two.theirs.end_session, session.id), await told(two.theirs.end_session, none)
        assert (foreign[0], foreign[1].replace(session.id, none)) == absent
        assert await two.theirs.check("theirs", lock.token) is False
        assert lock.held


async def test_a_lock_id_of_another_tenant_is_told_as_one_that_was_made_up(two: Two, service: Service) -> None:
    async with two.mine.lock("grant") as lock:
        made_up = LockID(2, "grant", lock.token).text(seal_key("guess", 2))
        for call in (two.theirs.release, two.theirs.check):
            foreign, invented = await told(call, lock.id), await told(call, made_up)
            assert foreign == invented
            assert foreign[0] is InvalidLockID
        assert await two.mine.check(lock.id)


async def test_routers_and_clients_agree_on_the_seal(two: Two, service: Service) -> None:
    async with two.mine.lock("sealed") as lock:
        assert LockID(1, "sealed", lock.token).text(seal_key(service.formation["secret"], 1)) == lock.id
        async with holdfast.connect(f"holdfast://{service.address}", service.key) as another:
            assert await another.check(lock.id)


async def test_waiters_of_others_do_not_count(two: Two) -> None:
    async with two.mine.lock("queue"):
        with pytest.raises(LockTimeout):
            await two.mine.lock("queue", wait=0).acquire()
        async with two.theirs.lock("queue", wait=0):
            assert (await two.theirs.get("queue")).waiters == 0


async def _registered(service: Service, key: str, group: int) -> tuple[Sdk, int]:
    sdk = Sdk()
    await sdk.open(service, key=key)
    answers = await sdk.request(group, Section(0, 0, bytes([Kind.REGISTER]), [0], [""], [0], [0], [0], [0], {}))
    assert isinstance(answers, Answers)
    return sdk, answers.tokens[0]


def _one(client: int, kind: Kind, name: str, token: int = 0, seq: int = 1, options: Options | None = None) -> Section:
    ttl = 10_000 if kind == Kind.ACQUIRE else 0
    return Section(client, 1, bytes([kind]), [seq], [name], [0], [token], [ttl], [0], {0: options} if options else {})


async def test_tokens_and_client_numbers_are_counted_by_tenant(service: Service) -> None:
    """Each has its own without gaps, whatever the other does meanwhile."""
    numbers: dict[str, list[int]] = {service.key: [], OTHER_KEY: []}
    tokens: dict[str, list[int]] = {service.key: [], OTHER_KEY: []}
    for turn, key in enumerate([service.key, OTHER_KEY, OTHER_KEY, service.key, OTHER_KEY] * 4):
        sdk, number = await _registered(service, key, 1)
        numbers[key].append(number)
        tenant = 1 if key == service.key else 2
        name = next(f"gap{turn}/{n}" for n in range(100) if sdk.group_of(f"gap{turn}/{n}", tenant) == 1)
        for seq in range(1, 1 + turn % 3):
            answers = await sdk.answers(1, _one(number, Kind.ACQUIRE, name, seq=2 * seq))
            await sdk.answers(1, _one(number, Kind.RELEASE, name, answers.tokens[0], seq=2 * seq + 1))
            tokens[key].append(answers.tokens[0])
    for given in (*numbers.values(), *tokens.values()):
        assert len(given) > 5
        assert given == list(range(given[0], given[0] + len(given)))


async def test_a_client_number_of_another_tenant_is_no_client(service: Service) -> None:
    """Answered byte for byte as a number that was never given, whatever is asked under it."""
    for group in (1, 2):
        stranger, own = await _registered(service, OTHER_KEY, group)
        number = 0
        while number <= own:
            _, number = await _registered(service, service.key, group)
        name = next(f"n{n}" for n in range(100) if stranger.group_of(f"n{n}", 2) == group)
        for kind in (Kind.ACQUIRE, Kind.RELEASE, Kind.KEEPALIVE, Kind.CANCEL):
            answers = [await stranger.request(group, _one(claimed, kind, name)) for claimed in (number, 1 << 40)]
            assert all(isinstance(each, Answers) for each in answers)
            assert encode(answers[0]) == encode(answers[1])
        for kind in (Kind.HOLDS, Kind.TICKETS):
            reads = [
                await stranger.request(group, _one(claimed, kind, "", seq=0), kind=Msg.READ)
                for claimed in (number, 1 << 40)
            ]
            assert encode(reads[0]) == encode(reads[1])


async def test_events_of_others_are_not_had_by_claiming_their_number(service: Service) -> None:
    """Nor by having the same one, which is another client."""
    holder, number = await _registered(service, service.key, 1)
    name = next(f"n{n}" for n in range(100) if holder.group_of(f"n{n}", 1) == 1)
    acquired = await holder.request(1, _one(number, Kind.ACQUIRE, name))
    assert isinstance(acquired, Answers)
    stranger, own = await _registered(service, OTHER_KEY, 1)
    while own < number:
        stranger, own = await _registered(service, OTHER_KEY, 1)
    await stranger.request(1, _one(number, Kind.TICKETS, "", seq=0), kind=Msg.READ)
    # Taken away by force: its holder hears it, and the one who claimed its number does not.
    breaker, breaking = await _registered(service, service.key, 1)
    await breaker.request(1, _one(breaking, Kind.FORCE, name, options=Options(now=True)))
    while not holder.events:
        await holder.request(1, _one(number, Kind.TICKETS, "", seq=0), kind=Msg.READ)
    await stranger.request(1, _one(1 << 40, Kind.TICKETS, "", seq=0), kind=Msg.READ)
    assert stranger.events == []


async def test_reads_of_a_foreign_name_are_answered_as_of_a_free_one(service: Service) -> None:
    """Byte for byte: what is alike in every byte takes the same way through the code."""
    holder, number = await _registered(service, service.key, 1)
    name = next(f"n{n}" for n in range(100) if holder.group_of(f"n{n}", 1) == 1 == holder.group_of(f"n{n}", 2))
    acquired = await holder.request(1, _one(number, Kind.ACQUIRE, name))
    assert isinstance(acquired, Answers)
    assert acquired.statuses == bytes([Status.OK])
    stranger = Sdk()
    await stranger.open(service, key=OTHER_KEY)
    free = next(f"m{n}" for n in range(100) if stranger.group_of(f"m{n}", 2) == 1)
    for kind, token in ((Kind.GET, 0), (Kind.CHECK, acquired.tokens[0])):
        foreign, absent = [
            await stranger.request(1, _one(0, kind, each, token, seq=0), kind=Msg.READ) for each in (name, free)
        ]
        assert isinstance(foreign, Answers)
        assert encode(foreign).replace(name.encode(), free.encode()) == encode(absent)


async def test_a_foreign_name_takes_as_long_as_a_free_one(two: Two) -> None:
    times: dict[str, list[float]] = {"taken": [], ABSENT: []}
    async with two.mine.lock("taken"):
        for _ in range(300):
            for name, seen in times.items():
                began = time.perf_counter()
                await two.theirs.get(name)
                seen.append(time.perf_counter() - began)
    ratio = statistics.median(times["taken"]) / statistics.median(times[ABSENT])
    assert 0.75 < ratio < 1.33


def test_a_known_key_with_a_wrong_secret_takes_as_long_as_an_unknown_one() -> None:
    many = [key_of(key_text(chr(ord("a") + n % 26) + chr(ord("a") + n // 26))) for n in range(500)]
    directory = Directory(lambda: 0.0)
    directory.adopt(meta_of(tenant_of(0), tenant_of(1, *many)))
    texts = {"known": key_text("aa", "x"), "unknown": key_text("zzz", "x"), "no key": "hf_"}
    times: dict[str, list[float]] = {what: [] for what in texts}
    for _ in range(2_000):
        for what, text in texts.items():
            began = time.perf_counter()
            with pytest.raises(Unauthenticated):
                directory.authenticate(text)
            times[what].append(time.perf_counter() - began)
    medians = [statistics.median(seen) for seen in times.values()]
    assert max(medians) / min(medians) < 1.5


def test_the_status_shows_a_tenant_who_leads_and_nothing_that_grows_with_others(service: Service) -> None:
    url = parse_url(f"holdfast://{service.address}")
    status = fetch_status(url, OTHER_KEY)
    assert not status.whole
    assert set(status.leaders()) == {0, 1, 2}
    shown = msgspec.to_builtins(status)
    assert {key for node in shown["nodes"] for key, value in node.items() if value} == {"node", "up", "groups"}
    assert {key for node in shown["nodes"] for group in node["groups"] for key, value in group.items() if value} <= {
        "group", "role", "leader", "term", "ready",
    }  # fmt: skip
    assert shown["router"]["pid"] == 0


async def test_raw_status_holds_no_more_than_is_decoded(service: Service) -> None:
    async with holdfast.connect(f"holdfast://{service.address}", OTHER_KEY) as client:
        raw = await client.status()
    assert set(raw) == {"whole", "router", "nodes"}
    assert set(raw["router"]) == {"address"}
    assert {key for node in raw["nodes"] for key in node} == {"node", "up", "groups"}
    assert {key for node in raw["nodes"] for group in node["groups"] for key in group} == {
        "group", "role", "leader", "term", "ready",
    }  # fmt: skip
