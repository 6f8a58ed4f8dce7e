"""Rates that all routers share through Redis, and the even share of each while Redis does not answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from importlib import resources
from typing import Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoScriptError, RedisError, ResponseError

from holdfast.wire.tenants import Quotas

from .credits import Credits, Granted, Row
from .shares import Shares
from .verdict import Decided, Later, Standing, Verdict

ANSWER_S_MAX: Final = 0.1
"""Longest that a section waits for Redis. Then it is decided by this router's share."""
ANSWER_S_MIN: Final = 0.02
"""A call is given at least this, also when somebody had waited before it could be made."""
TELL_EVERY_S: Final = 0.05
"""What is in no hurry is told together."""
PROBE_EVERY_S: Final = 1.0
CONNECT_S_MAX: Final = 1.0
"""For a new connection and, on it, a first answer, while nobody waits."""
HANG_UP_S_MAX: Final = 0.5
"""For closing a connection: TLS waits for the peer's goodbye, and bytes for a peer that reads."""
ROWS_MAX: Final = 512
"""Tenants in one call."""
_SCRIPT: Final = resources.files(__package__).joinpath("bucket.lua").read_text()
_PROBE: Final = Row(tenant=-1, rate=1.0, burst=1.0, start=1.0, ceiling=-1.0, spent=0, exempt=0, refused=0, want=0)

log = logging.getLogger("holdfast.router")


class RedisUrlUnusable(Exception):
    """``HOLDFAST_REDIS_URL`` is none."""


class RedisBuckets:
    """``cluster`` keeps clusters apart that use one Redis; ``routers`` gives the number of live routers."""

    def __init__(self, url: str, cluster: str, routers: Callable[[], int], clock: Callable[[], float]) -> None:
        """Raises :class:`RedisUrlUnusable`."""
        try:
            # Times are kept here: a timeout of the library's own makes it swallow a cancellation now and then.
            self._redis = Redis.from_url(url, retry=Retry(NoBackoff(), 0), protocol=2, socket_timeout=None)
        except ValueError:  # its words may show the password
            raise RedisUrlUnusable(
                "HOLDFAST_REDIS_URL is no URL of a Redis: it reads redis://[[USER]:PASSWORD@]HOST[:PORT][/DB], with "
                "rediss:// for TLS, or unix://PATH"
            ) from None
        where = self._redis.connection_pool.connection_kwargs
        self._address = str(where.get("path") or f"{where.get('host', 'localhost')}:{where.get('port', 6379)}")
        # One slot of a Redis cluster, as a script's keys have to be.
        self._prefix = f"holdfast:{{{cluster}}}:rate:"
        self._routers = routers
        self._clock = clock
        self._local = Shares(routers, clock)
        self._credits = Credits(clock, self._estimate, self._learned, self._wake_up)
        self._sha = ""
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.shared = False
        """Whether Redis decides; else this router's share does."""
        self.fallbacks = 0
        self._told: set[str] = set()
        """Of what is wrong since it was shared last."""
        self.calls = 0

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="redis")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._decide_locally()
        await self._hang_up()

    # Asking.

    def ask(self, tenant: int, quotas: Quotas, operations: int) -> Verdict | Later:
        return (self._credits if self.shared else self._local).ask(tenant, quotas, operations)

    def wait(self, tenant: int, operations: int, decided: Decided) -> None:
        """For what :meth:`ask` said that it is said later."""
        self._credits.wait(tenant, operations, decided)

    def charge(self, tenant: int, quotas: Quotas, operations: int) -> None:
        (self._credits if self.shared else self._local).charge(tenant, quotas, operations)

    def standing(self, tenant: int, quotas: Quotas) -> Standing:
        standing = self._local.standing(tenant, quotas)
        if not self.shared:
            return standing
        remaining = min(standing.remaining * self._routers() + max(self._credits.credit(tenant), 0), quotas.burst)
        return Standing(quotas.rate, quotas.burst, remaining, standing.reset_s)

    def status(self) -> dict[str, object]:
        return {
            "shared": self.shared,
            "redis_calls": self.calls,
            "redis_fallbacks": self.fallbacks,
        }

    # What is known of the buckets in Redis: an even share of each is kept as if it were this router's own.

    def _estimate(self, tenant: int, quotas: Quotas) -> float:
        now = self._clock()
        bucket = self._local.bucket(tenant, quotas, now)
        bucket.refill(now)
        return min(bucket.tokens * max(self._routers(), 1), float(quotas.burst))

    def _learned(self, tenant: int, quotas: Quotas, tokens: float) -> None:
        now = self._clock()
        self._local.bucket(tenant, quotas, now).set(tokens / max(self._routers(), 1), now)

    # Calls.

    def _wake_up(self) -> None:
        self._wake.set()

    async def _run(self) -> None:
        while True:
            try:
                await self._work()
            except Exception as error:  # noqa: BLE001 - without this task nobody who waits is decided
                self._fall_back(error)
            await self._hang_up()
            await asyncio.sleep(PROBE_EVERY_S)

    async def _work(self) -> None:
        """For as long as Redis answers."""
        async with asyncio.timeout(CONNECT_S_MAX):
            await self._call([_PROBE])
        async with asyncio.timeout(ANSWER_S_MAX):
            await self._call([_PROBE])
        self._share()
        tell_at = self._clock()
        while True:
            await self._pause(tell_at)
            now = self._clock()
            everything = now >= tell_at
            if everything:
                tell_at = now + TELL_EVERY_S
            rows = self._credits.rows(everything)
            for first in range(0, len(rows), ROWS_MAX):
                some = rows[first : first + ROWS_MAX]
                waited_s = self._clock() - self._credits.waiting_since(some, now)
                async with asyncio.timeout(max(ANSWER_S_MAX - waited_s, ANSWER_S_MIN)):
                    answers = await self._call(some)
                self._credits.answered(some, answers)

    async def _pause(self, tell_at: float) -> None:
        """Until somebody is in a hurry, or it is time to tell what is in none."""
        timer = None
        if not self._credits.idle:
            timer = asyncio.get_running_loop().call_later(max(tell_at - self._clock(), 0.0), self._wake.set)
        await self._wake.wait()
        self._wake.clear()
        if timer is not None:
            timer.cancel()

    async def _call(self, rows: list[Row]) -> list[Granted]:
        keys = [f"{self._prefix}{row.tenant}" for row in rows]
        arguments = [
            value
            for row in rows
            for value in (row.rate, row.burst, row.start, row.ceiling, row.spent, row.exempt, row.refused, row.want)
        ]
        self.calls += 1
        try:
            if not self._sha:
                raise NoScriptError
            answer = await self._redis.evalsha(self._sha, len(keys), *keys, *arguments)
        except NoScriptError:
            # Redis was restarted, or nobody has used the script yet.
            self._sha = str(await self._redis.script_load(_SCRIPT))
            answer = await self._redis.evalsha(self._sha, len(keys), *keys, *arguments)
        if len(answer) != 3 * len(rows):
            raise ResponseError("the answer does not fit the question")
        return [Granted(answer[at], answer[at + 1] / 1000, answer[at + 2] / 1000) for at in range(0, len(answer), 3)]

    async def _hang_up(self) -> None:
        """An answer that comes late must not be taken for another's."""
        with contextlib.suppress(RedisError, OSError):  # of which TimeoutError is one
            async with asyncio.timeout(HANG_UP_S_MAX):
                await self._redis.connection_pool.disconnect()

    # Changes of mind.

    def _share(self) -> None:
        self.shared = True
        self._credits.reopen(
            [(tenant, quotas, self._estimate(tenant, quotas)) for tenant, quotas in self._local.used()]
        )
        log.info("rates are shared with all routers through Redis", extra={"redis": self._address})

    def _fall_back(self, error: Exception) -> None:
        if self.shared or not self.fallbacks:
            self.fallbacks += 1
            self._told.clear()
        trouble = "refuses" if isinstance(error, AuthenticationError | ResponseError) else "does not answer"
        if trouble not in self._told:
            # A line for each: who has mended the first must hear of the next.
            self._told.add(trouble)
            log.warning(
                f"Redis {trouble}: tenants have this router's even share of their rates until it serves",
                extra={"redis": self._address, "why": str(error) or f"no answer within {ANSWER_S_MAX:g} s"},
            )
        self._decide_locally()

    def _decide_locally(self) -> None:
        self.shared = False
        for tenant, quotas, operations, decided in self._credits.close():
            decided(self._local.ask(tenant, quotas, operations))
