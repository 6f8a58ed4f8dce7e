"""Against a real Redis: one rate for all routers; slow, dead, restarted or refusing, it holds nobody up."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
import trustme
from redis import Redis

from holdfast.wire.tenants import Quotas
from holdfast_router.admission import redis_buckets
from holdfast_router.admission.bucket import BOOKED_S_MAX
from holdfast_router.admission.credits import Row
from holdfast_router.admission.redis_buckets import ANSWER_S_MAX, RedisBuckets, RedisUrlUnusable
from holdfast_router.admission.verdict import LATER, Denied
from tests.router.admission.clock import Clock
from tests.router.admission.redis_server import RedisServer, needs_redis
from tests.router.admission.test_bucket import quotas
from tests.router.admission.test_credits import Server

pytestmark = needs_redis
LIMIT = quotas(1000, 2000)
ROUTERS = 3
LATE_S = 0.15
"""Beyond :data:`ANSWER_S_MAX`, for a machine that is busy with other things."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    server.kill()


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_buckets, "PROBE_EVERY_S", 0.1)


async def until_shared(buckets: RedisBuckets, shared: bool = True) -> None:
    async with asyncio.timeout(10):
        while buckets.shared != shared:
            await asyncio.sleep(0.01)


def buckets_of(server: RedisServer, url: str = "") -> RedisBuckets:
    return RedisBuckets(url or server.url, "cluster", lambda: ROUTERS, time.monotonic)


@asynccontextmanager
async def routers_of(server: RedisServer, count: int = 1) -> AsyncIterator[list[RedisBuckets]]:
    routers = [buckets_of(server) for _ in range(count)]
    for router in routers:
        router.start()
    try:
        for router in routers:
            await until_shared(router)
        yield routers
    finally:
        for router in routers:
            await router.close()


async def ask(router: RedisBuckets, operations: int, tenant: int = 1, given: Quotas = LIMIT) -> Denied | None:
    verdict = router.ask(tenant, given, operations)
    if verdict is not LATER:
        return verdict
    waiter: asyncio.Future[Denied | None] = asyncio.get_running_loop().create_future()
    router.wait(tenant, operations, waiter.set_result)
    return await waiter


async def refused(router: RedisBuckets, later_ms: int) -> Denied:
    """The first refusal for longer than ``later_ms``."""
    async with asyncio.timeout(5):
        while (denied := await ask(router, 1)) is None or denied.retry_after_ms < later_ms:
            await asyncio.sleep(0.01)
    return denied


async def test_routers_share_one_bucket_and_tenants_do_not(server: RedisServer) -> None:
    async with routers_of(server, 2) as (one, two):
        assert await ask(one, LIMIT.burst + 500) is None
        denied = await refused(two, later_ms=300)
        assert (denied.quota, denied.limit) == ("rate", LIMIT.rate)
        assert denied.retry_after_ms <= 501
        assert await ask(two, 1, tenant=2) is None
        await asyncio.sleep(denied.retry_after_s)
        assert await ask(two, 1) is None


async def test_how_a_tenant_stands_is_told_of_the_whole_and_while_alone_of_the_share(server: RedisServer) -> None:
    async with routers_of(server) as (router,):
        whole = router.standing(1, LIMIT)
        assert (whole.limit, whole.burst) == (LIMIT.rate, LIMIT.burst)
        assert LIMIT.burst - ROUTERS < whole.remaining <= LIMIT.burst
    share = router.standing(1, LIMIT)
    assert (share.limit, share.burst) == (LIMIT.rate / ROUTERS, LIMIT.burst // ROUTERS)
    assert share.remaining == share.burst


async def test_what_is_never_refused_is_told_within_a_moment(server: RedisServer) -> None:
    async with routers_of(server, 2) as (one, two):
        assert await ask(two, 1) is None
        one.charge(1, LIMIT, 10 * LIMIT.burst)
        denied = await refused(two, later_ms=1500)
        assert denied.retry_after_ms <= 1000 * LIMIT.burst / LIMIT.rate + 50


async def test_many_tenants_are_served_by_few_calls(server: RedisServer) -> None:
    async with routers_of(server) as (router,):
        before = router.calls
        found = await asyncio.gather(*(ask(router, 1, tenant=tenant) for tenant in range(1, 1201)))
        assert found == [None] * 1200
        assert router.calls - before <= 5


async def test_the_script_counts_as_the_model_does(server: RedisServer) -> None:
    """Row by row; as exact as it is known when Redis looked at its clock, in this call and in the one before."""
    rng = Random(5)
    buckets = buckets_of(server)
    clock = Clock(time.time())
    model = Server(clock)
    took = [0.0, 0.0, 0.0]
    for step in range(60):
        clock.now = time.time()
        row = Row(
            tenant=step % 3,
            rate=float(10 + step % 3),
            burst=100.0,
            start=rng.choice([100.0, 40.0]),
            ceiling=rng.choice([-1.0, -1.0, -1.0, 0.0, 5.0]),
            spent=rng.choice([0, 0, 3, -2]),
            exempt=rng.choice([0, 0, 7, 250]),
            refused=rng.choice([0, 0, 4]),
            want=rng.choice([0, 1, 20]),
        )
        (real,), (expected,) = await buckets._call([row]), model.call([row])
        before, took[step % 3] = took[step % 3], time.time() - clock.now
        doubt_s = before + took[step % 3] + 0.002
        assert abs(real.tokens - expected.tokens) <= 1 + row.rate * doubt_s
        assert real.tokens + real.left == pytest.approx(expected.tokens + expected.left, abs=row.rate * doubt_s)
        assert real.booked_s == pytest.approx(expected.booked_s, abs=0.1 + 2 * doubt_s)
        assert real.booked_s <= BOOKED_S_MAX + (1 + 2 * row.burst) / row.rate
        model.buckets[row.tenant].set(real.left, clock.now)
        await asyncio.sleep(0.005)
    await buckets.close()


async def test_buckets_leave_nothing_behind_and_clusters_do_not_meet(server: RedisServer) -> None:
    other = RedisBuckets(server.url, "other", lambda: 1, time.monotonic)
    other.start()
    async with routers_of(server) as (router,):
        await until_shared(other)
        assert await ask(router, 2 * LIMIT.burst) is None
        assert await ask(router, 1) is not None
        assert await ask(other, 1) is None
        with Redis.from_url(server.url) as client:
            lives = [client.pttl(key) for key in client.keys("holdfast:*")]
        assert len(lives) == 4
        assert all(isinstance(life, int) and 0 < life <= 60_000 for life in lives)
    await other.close()


async def test_frozen_redis_delays_a_section_once_and_by_little(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "holdfast.router")
    async with routers_of(server) as (router,):
        assert await ask(router, 200) is None
        server.freeze()
        began = time.monotonic()
        assert await ask(router, 10) is None
        assert time.monotonic() - began < ANSWER_S_MAX + LATE_S
        assert not router.shared
        for _ in range(1000):
            verdict = router.ask(1, LIMIT, 1)
            assert verdict is not LATER, "decided at once, without Redis"
        assert verdict is not None, "a third of the rate, and of what the bucket held"
        await asyncio.sleep(0.5)
        lines = [record.levelname for record in caplog.records]
        assert lines == ["INFO", "WARNING"], "one line when it starts, one for all of the outage"
        assert router.status()["redis_fallbacks"] == 1
        server.thaw()
        await until_shared(router)


async def test_killed_and_started_anew_nothing_is_lost_and_nobody_gets_a_second_burst(server: RedisServer) -> None:
    async with routers_of(server) as (router,):
        assert await ask(router, LIMIT.burst + 100) is None
        assert await ask(router, 1) is not None
        server.kill()
        async with asyncio.timeout(5):
            while router.shared:
                await ask(router, 1)
                await asyncio.sleep(0.01)
        share = LIMIT.rate / ROUTERS
        began = time.monotonic()
        admitted = 0
        while (elapsed := time.monotonic() - began) < 1:
            admitted += 20 if await ask(router, 20) is None else 0
            await asyncio.sleep(0.001)
        assert elapsed * share - 20 <= admitted <= elapsed * share + 130, (
            "its share, and what it had been granted before"
        )
        server.start()
        while not router.status()["shared"]:
            await ask(router, 20)
            await asyncio.sleep(0.001)
        began = time.monotonic()
        burst = 0
        while await ask(router, 10) is None:
            burst += 10
        assert burst < 200 + LIMIT.rate * (time.monotonic() - began)


async def test_a_restart_that_nobody_noticed_costs_nothing(server: RedisServer) -> None:
    async with routers_of(server) as (router,):
        assert await ask(router, 5 * LIMIT.burst) is None
        with Redis.from_url(server.url) as client:
            client.script_flush()
            client.flushall()
        denied = await ask(router, 1)
        assert denied is not None, "the bucket is made anew with what the router knows of it"
        assert router.shared


class Mute:
    """Accepts connections, with TLS or without, and says nothing: neither an answer nor goodbye."""

    def __init__(self, tls: bool) -> None:
        self.context: ssl.SSLContext | None = None
        if tls:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            trustme.CA().issue_cert("127.0.0.1").configure_cert(self.context)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.accepted: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        host, port = self._listener.getsockname()
        return f"rediss://{host}:{port}?ssl_cert_reqs=none" if self.context else f"redis://{host}:{port}"

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
                self.accepted.append(accepted)
                if self.context is not None:
                    self.accepted[-1] = self.context.wrap_socket(accepted, server_side=True)
            except OSError:
                if self._listener.fileno() < 0:
                    return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)
        for each in self.accepted:
            each.close()


@pytest.mark.parametrize("tls", [False, True])
async def test_who_accepts_and_says_nothing_is_called_again_and_holds_nobody_up(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, tls: bool
) -> None:
    monkeypatch.setattr(redis_buckets, "CONNECT_S_MAX", 0.2)
    mute = Mute(tls)
    router = buckets_of(server, mute.url)
    router.start()
    try:
        async with asyncio.timeout(10):
            while len(mute.accepted) < 3:
                assert await ask(router, 1) is None
                await asyncio.sleep(0.01)
        assert not router.shared
    finally:
        async with asyncio.timeout(5):
            await router.close()
        mute.close()


async def test_a_connection_that_does_not_close_keeps_nobody_from_the_way_back(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with TLS, when the peer has fallen silent."""
    async with routers_of(server) as (router,):
        pool = router._redis.connection_pool
        closing = 0

        async def closes_never() -> None:
            nonlocal closing
            closing += 1
            await asyncio.Event().wait()

        with monkeypatch.context() as patch:
            patch.setattr(pool, "disconnect", closes_never)
            server.freeze()
            assert await ask(router, 1) is None
            server.thaw()
            await until_shared(router)
            assert closing == 1
            async with asyncio.timeout(5):
                await router.close()
        assert closing > 1


async def test_who_mends_what_was_wrong_hears_what_is_wrong_now(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    router = buckets_of(server)
    router.start()
    await until_shared(router)
    server.kill()
    server.password = "s3cret"
    async with asyncio.timeout(10):
        while router.shared:
            await ask(router, 1)
            await asyncio.sleep(0.01)
        server.start()
        while len(caplog.records) < 2:
            await asyncio.sleep(0.01)
    assert [record.message.partition(":")[0] for record in caplog.records] == ["Redis does not answer", "Redis refuses"]
    assert router.fallbacks == 1
    await router.close()


async def test_refused_authentication_and_an_unknown_host_leave_the_share(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    locked = RedisServer(tmp_path, password="s3cret")
    try:
        for url in (f"redis://:wrong@{locked.address}", "redis://no.such.host.invalid:1"):
            caplog.clear()
            router = buckets_of(locked, url)
            router.start()
            assert await ask(router, LIMIT.burst // ROUTERS) is None
            await asyncio.sleep(0.5)
            assert not router.shared
            assert [record.levelname for record in caplog.records] == ["WARNING"]
            assert "wrong" not in caplog.text
            await router.close()
        right = buckets_of(locked)
        right.start()
        await until_shared(right)
        with Redis.from_url(locked.url) as client:
            client.config_set("requirepass", "changed")
            client.client_kill_filter(_type="normal", skipme=True)
        assert await ask(right, 1) is None
        assert not right.shared
        await right.close()
    finally:
        locked.kill()


@pytest.mark.parametrize("script", ["return {1}", "return 1", "return {'a', 'b', 'c'}"])
async def test_an_answer_that_is_none_counts_as_no_answer(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    async with routers_of(server) as (router,):
        with monkeypatch.context() as patch:
            patch.setattr(redis_buckets, "_SCRIPT", script)
            with Redis.from_url(server.url) as client:
                client.script_flush()
            async with asyncio.timeout(5):
                assert await ask(router, 1) is None
            assert not router.shared
        with Redis.from_url(server.url) as client:
            client.script_flush()
        await until_shared(router)


async def test_whoever_waits_when_the_router_ends_is_decided(server: RedisServer) -> None:
    async with routers_of(server) as (router,):
        server.freeze()
        waiting = asyncio.create_task(ask(router, 1))
        await asyncio.sleep(0)
        await router.close()
        assert await waiting is None
        server.thaw()


def test_a_url_that_is_none_is_refused_without_showing_it() -> None:
    for url in ("nonsense", "http://:s3cret@host", "redis://:s3cret@host:port"):
        with pytest.raises(RedisUrlUnusable) as refused:
            RedisBuckets(url, "c", lambda: 1, time.monotonic)
        assert "s3cret" not in str(refused.value)
