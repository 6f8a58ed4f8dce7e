"""A tenant's quotas at a real router: what is refused says which, how much and when; what lets go never is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import holdfast
from holdfast.wire.administration import AdminCall, ListTenants
from holdfast.wire.errors import Code
from holdfast.wire.frames import Answers, Kind, Options, Status, encode
from holdfast.wire.messages import Msg, WatchRequest, decode_refusal
from holdfast.wire.tenants import PLANS
from tests.machine.driver import Op, section
from tests.node.processes import Caller
from tests.router.admission.redis_server import RedisServer, needs_redis
from tests.router.admission.test_bucket import quotas
from tests.router.test_process import OTHER_KEY, Sdk, Service

RATE, BURST = 50, 100
TENANT = 2
NAME = "a"
KEEPING = (
    (Kind.RELEASE, Status.NOT_HELD), (Kind.RENEW, Status.NOT_HELD), (Kind.KEEPALIVE, Status.LEASE_ENDED),
)  # fmt: skip
"""What lets go or keeps, and what it is answered when nothing is held."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("admission") / "cluster", quotas(RATE, BURST))
    yield service
    service.stop()


@pytest.fixture(autouse=True)
async def no_connection_is_left() -> AsyncIterator[None]:
    yield
    await Caller.close_all()


async def opened(service: Service, address: str = "") -> tuple[Sdk, int, int]:
    """A connection of the tenant with the small quota, the group of its lock, and its number there."""
    sdk = Sdk()
    await sdk.open(service, key=OTHER_KEY, address=address)
    group = sdk.group_of(NAME, TENANT)
    async with asyncio.timeout(20):
        while not isinstance(found := await sdk.request(group, section(0, 0, [Op(Kind.REGISTER)])), Answers):
            await asyncio.sleep(sdk.refusal.retry_after_ms / 1000)
    return sdk, group, found.tokens[0]


async def status(service: Service, address: str = "") -> dict[str, Any]:
    """What the operator sees."""
    operator = Sdk()
    await operator.open(service, key=service.operator_key, address=address)
    # A status is kept for a tenth of a second.
    await asyncio.sleep(0.12)
    operator.connection.send(Msg.STATUS, 0, 1, b"")
    while True:
        kind, _, _, body = await operator.next()
        if kind == Msg.STATUS:
            operator.connection.close()
            found: dict[str, Any] = msgspec.msgpack.decode(body)
            return dict(found["router"]["admission"])


async def drained(sdk: Sdk, group: int, client: int) -> None:
    """Use up what there is."""
    reads = section(client, 1, [Op(Kind.GET, n, NAME) for n in range(BURST)])
    while await sdk.request(group, reads, kind=Msg.READ) != Code.THROTTLED:
        pass


async def test_a_used_up_rate_is_refused_with_which_how_much_and_when(service: Service) -> None:
    sdk, group, client = await opened(service)
    before = await status(service)
    await drained(sdk, group, client)
    refusal = sdk.refusal
    assert (refusal.quota, refusal.limit) == ("rate", RATE)
    assert 0 < refusal.retry_after_ms <= 1000 * (BURST + 1) / RATE
    assert await sdk.request(group, section(client, 1, [Op(Kind.ACQUIRE, 1, NAME)])) == Code.THROTTLED
    assert sdk.refusal.retry_after_ms > refusal.retry_after_ms, "after those who were told before"
    after = await status(service)
    assert after["throttled"]["rate"] == before["throttled"]["rate"] + BURST + 1
    assert (after["under_way"], after["throttled"]["in_flight"]) == (0, 0)
    await asyncio.sleep(sdk.refusal.retry_after_ms / 1000)
    answers = await sdk.answers(group, section(client, 1, [Op(Kind.ACQUIRE, 1, NAME)]))
    assert answers.statuses == bytes([Status.OK])
    await sdk.answers(group, section(client, 1, [Op(Kind.RELEASE, 2, NAME, token=answers.tokens[0])]))


async def test_letting_go_and_keeping_are_never_refused_and_another_tenant_notices_nothing(service: Service) -> None:
    sdk, group, client = await opened(service)
    other = Sdk()
    await other.open(service)
    number = await other.register(other.group_of(NAME))
    await drained(sdk, group, client)
    for seq in range(1, 300):
        kind, answer = KEEPING[seq % len(KEEPING)]
        asked = Op(kind, seq, "" if kind == Kind.KEEPALIVE else NAME, token=1, lease=7 * (kind == Kind.KEEPALIVE))
        found = await sdk.answers(group, section(client, seq, [asked]))
        assert found.statuses == bytes([answer]), kind
        await other.answers(other.group_of(NAME), section(number, seq, [asked]))
    assert await sdk.request(group, section(client, 300, [Op(Kind.ACQUIRE, 300, NAME)])) == Code.THROTTLED
    assert sdk.refusal.retry_after_ms > 500, "what was overdrawn is waited for"


async def test_ending_ones_own_session_is_letting_go_and_ending_anothers_is_not(service: Service) -> None:
    sdk, group, client = await opened(service)
    await drained(sdk, group, client)
    own = await sdk.answers(group, section(client, 1, [Op(Kind.END, 1, lease=7)]))
    assert own.statuses == bytes([Status.LEASE_ENDED])
    anothers = Op(Kind.END, 2, options=Options(session=bytes(16)))
    assert await sdk.request(group, section(client, 2, [anothers])) == Code.THROTTLED
    assert await sdk.request(group, section(client, 2, [Op(Kind.RELEASE, 3, NAME), anothers])) == Code.THROTTLED


async def test_an_administrator_is_charged_and_heard_when_the_rate_is_used_up(service: Service) -> None:
    sdk, group, client = await opened(service)
    await drained(sdk, group, client)
    for request in range(BURST):
        sdk.connection.send(Msg.ADMIN, 0, 10_000 + request, b"")
        assert await sdk.reply(10_000 + request) == Code.BAD_MESSAGE
    assert await sdk.request(group, section(client, 1, [Op(Kind.ACQUIRE, 1, NAME)])) == Code.THROTTLED
    assert sdk.refusal.retry_after_ms > 500, "what was overdrawn is waited for"


async def test_a_watch_costs_what_a_look_costs(service: Service) -> None:
    sdk, group, client = await opened(service)
    await drained(sdk, group, client)
    on, off = (encode(WatchRequest(NAME, on=on)) for on in (True, False))
    sdk.connection.send(Msg.WATCH, group, 20_000, on)
    assert await sdk.reply(20_000) == Code.THROTTLED
    async with asyncio.timeout(20):
        await asyncio.sleep(sdk.refusal.retry_after_ms / 1000)
        for request in range(20_001, 20_001 + 2 * BURST):
            sdk.connection.send(Msg.WATCH, group, request, on)
            sdk.connection.send(Msg.WATCH, group, request, off)
        while (found := await sdk.next())[0] != Msg.REFUSED:
            pass
    assert decode_refusal(found[3]).code == Code.THROTTLED
    assert (await status(service))["under_way"] == 0


async def test_a_section_that_cannot_be_read_is_charged(service: Service) -> None:
    sdk, group, _ = await opened(service)
    codes = [await sdk.request(group, b"\xc0") for _ in range(3 * BURST)]
    assert set(codes) == {Code.BAD_MESSAGE, Code.THROTTLED}


async def test_operations_under_way_end_with_their_connection(service: Service) -> None:
    sdk, group, client = await opened(service)
    for request in range(10):
        body = msgspec.msgpack.encode([5000, msgspec.Raw(b"")])
        sdk.connection.send(Msg.READ, group, 1000 + request, body)
    reads = section(client, 1, [Op(Kind.GET, n, NAME) for n in range(20)])
    await sdk.request(group, reads, kind=Msg.READ)
    sdk.connection.abort()
    async with asyncio.timeout(5):
        while (await status(service))["under_way"]:
            pass


async def test_the_sdk_waits_as_it_is_told_and_loses_nothing(service: Service) -> None:
    async with holdfast.connect(f"holdfast://{service.address}", OTHER_KEY, timeout=30.0) as client:

        async def cycle(name: str) -> None:
            async with client.lock(name, wait=30.0):
                pass

        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(cycle(f"lock{n}") for n in range(2 * BURST)))
        elapsed = asyncio.get_running_loop().time() - began
    assert elapsed > BURST / RATE - 0.5, "the rest of the acquires; releases overdraw"


async def test_an_impatient_caller_is_told_which_quota_is_used_up(service: Service) -> None:
    sdk, group, client = await opened(service)
    async with holdfast.connect(f"holdfast://{service.address}", OTHER_KEY, timeout=0.5) as impatient:
        with pytest.raises(holdfast.errors.Throttled) as refused:
            for _ in range(20):
                await drained(sdk, group, client)
                await impatient.get(NAME)
    assert (refused.value.quota, refused.value.limit) == ("rate", RATE)
    assert refused.value.retry_after_ms > 0


@needs_redis
async def test_two_routers_with_one_redis_give_one_rate(service: Service, tmp_path: Path) -> None:
    redis = RedisServer(tmp_path)
    first = service.address
    routers = []
    try:
        addresses = []
        for _ in range(2):
            routers.append(service.start_router(HOLDFAST_REDIS_URL=redis.url))
            addresses.append(service.address)
        (one, group, client), (two, _, _) = [await opened(service, address) for address in addresses]
        for address in addresses:
            async with asyncio.timeout(10):
                while not (await status(service, address))["shared"]:
                    pass
        await drained(one, group, client)
        admitted = 0
        while await two.request(group, section(client, 1, [Op(Kind.GET, 1, NAME)]), kind=Msg.READ) != Code.THROTTLED:
            admitted += 1
        assert admitted < BURST / 2, "the other router's burst is its, too"
        redis.kill()
        async with asyncio.timeout(10):
            while (await status(service, addresses[1]))["shared"]:
                await two.request(group, section(client, 1, [Op(Kind.ACQUIRE, 1, NAME)]))
    finally:
        service.address = first
        for router in routers:
            router.terminate()
            assert router.wait(10) == 0
            assert router.stdout is not None
            router.stdout.close()
        redis.kill()


def test_plans_admit_a_section_of_every_size() -> None:
    for plan in PLANS.values():
        assert plan.quotas.rate > 0
        assert plan.quotas.burst >= plan.quotas.rate
        assert plan.quotas.in_flight > 0


async def test_a_tenants_administrators_are_heard_so_often_and_the_operator_always(service: Service) -> None:
    sdk, group, client = await opened(service)
    await drained(sdk, group, client)

    async def listed(sdk: Sdk, request: int) -> Code | None:
        sdk.connection.send(Msg.ADMIN, 0, request, encode(AdminCall(bytes(16), ListTenants())))
        while (found := await sdk.next())[2] != request:
            pass
        return Code(decode_refusal(found[3]).code) if found[0] == Msg.REFUSED else None

    answers = [await listed(sdk, 1000 + n) for n in range(40)]
    assert answers[0] is None, "its rate is used up, which keeps nobody from revoking a key"
    assert answers[-1] == Code.THROTTLED
    ends = section(client, 1000, [Op(Kind.END, 1000, options=Options(session=bytes(16)))])
    assert await sdk.request(group, ends) == Code.THROTTLED, "it would be noted twice"
    operator = Sdk()
    await operator.open(service, key=service.operator_key)
    assert {await listed(operator, 1000 + n) for n in range(40)} == {None}
