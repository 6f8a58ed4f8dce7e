"""Clients for load tests through HTTP, gRPC or the SDK: cycles and tallies as in ``lines.py``, one lock a cycle.

A line has connections of its own, as many as it has requests under way.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from http_client import HttpConnection, head_of, post
from lines import JITTER, TTL_MS, Tally

import holdfast
from holdfast.v1 import locks_pb2 as pb
from holdfast.v1.locks_pb2_grpc import LockServiceStub
from holdfast.v1.types_pb2 import GrantRef

T = TypeVar("T")

UNDER_WAY_MAX = 256
"""Of one line; what comes due beyond it is counted as refused by the client itself."""


class Refused(Exception):
    def __init__(self, code: str, retry_after_ms: int) -> None:
        super().__init__(code)
        self.code = code
        self.retry_after_ms = retry_after_ms


class FrontLine(ABC):
    """Cycles through a front. ``on_end(line)`` is called after each, whatever came of it."""

    def __init__(self, patience_s: float, on_end: Callable[[FrontLine], None]) -> None:
        self.tally = Tally()
        self.obeys = True
        self._blocked_until = 0.0
        self._patience_s = patience_s
        self._on_end = on_end
        self._tag = secrets.token_hex(6)
        self._begun = 0
        self._cycles: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None

    @abstractmethod
    async def open(self, address: tuple[str, int], key: str) -> None: ...

    @abstractmethod
    async def acquire(self, name: str) -> Any:
        """What the release needs. Raises :class:`Refused`."""

    @abstractmethod
    async def release(self, grant: Any) -> Any:
        """Raises :class:`Refused`."""

    @abstractmethod
    async def renew(self, grant: Any) -> None:
        """Raises :class:`Refused`."""

    def begin(self, due: float) -> None:
        """Raises what an earlier cycle failed of, other than a refusal."""
        if self._failure is not None:
            raise self._failure
        if time.perf_counter() < self._blocked_until:
            return
        self._begun += 1
        self.tally.begun += 1
        if len(self._cycles) >= UNDER_WAY_MAX:
            _count(self.tally.refused, "not sent")
            return
        task = asyncio.create_task(self._cycle(f"{self._tag}{self._begun}", due, self.tally))
        self._cycles.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._cycles.discard(task)
        self._failure = self._failure or task.exception()

    async def _cycle(self, name: str, due: float, tally: Tally) -> None:
        grant = await self._asked(self.acquire(name), tally, tally.refused)
        if grant is not None:
            tally.took_s.append(time.perf_counter() - due)
            if await self._asked(self.release(grant), tally, tally.releases_refused) is not None:
                now = time.perf_counter()
                tally.done += 1
                tally.late += now - due > 2 * self._patience_s
                tally.finished_at.append(now)
        self._on_end(self)

    async def _asked(self, asking: Coroutine[Any, Any, Any], tally: Tally, books: dict[str, int]) -> Any:
        try:
            return await asking
        except Refused as refused:
            _count(books, refused.code)
            tally.retry_after_ms.append(refused.retry_after_ms)
            if self.obeys:
                wait_s = refused.retry_after_ms / 1000 * (1 + random.random() * JITTER)
                self._blocked_until = max(self._blocked_until, time.perf_counter() + wait_s)
            return None


def _count(books: dict[str, int], code: str) -> None:
    books[code] = books.get(code, 0) + 1


class HttpLine(FrontLine):
    async def open(self, address: tuple[str, int], key: str) -> None:
        self._address = address
        self._head = head_of(address[0], key)
        self._idle: list[HttpConnection] = []

    async def acquire(self, name: str) -> str:
        answer = await self._post("/v1/acquire", {"name": name, "ttl_ms": TTL_MS})
        return str(answer["lock_id"])

    async def release(self, grant: str) -> bool:
        await self._post("/v1/release", {"lock_id": grant})
        return True

    async def renew(self, grant: str) -> None:
        await self._post("/v1/renew", {"lock_id": grant, "ttl_ms": TTL_MS})

    async def _post(self, path: str, given: dict[str, Any]) -> Any:
        request = post(path, self._head, json.dumps(given))
        if self._idle:
            connection = self._idle.pop()
        else:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(HttpConnection, *self._address)
        status, answer = await connection.ask(request)
        self._idle.append(connection)
        found = json.loads(answer)
        if status != 200:
            raise Refused(found["code"], found.get("retry_after_ms", 0))
        return found


class GrpcLine(FrontLine):
    async def open(self, address: tuple[str, int], key: str) -> None:
        # A channel of its own: channels of one process share a connection unless told otherwise.
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._stub = LockServiceStub(grpc.aio.insecure_channel(f"{address[0]}:{address[1]}", options))  # type: ignore[no-untyped-call]
        self._metadata = (("authorization", f"Bearer {key}"),)
        self._ttl = Duration(seconds=TTL_MS // 1000)

    async def acquire(self, name: str) -> GrantRef:
        answer = await self._call(self._stub.Acquire, pb.AcquireRequest(name=name, ttl=self._ttl))
        return GrantRef(name=name, token=answer.grant.token)

    async def release(self, grant: GrantRef) -> Any:
        return await self._call(self._stub.Release, pb.ReleaseRequest(grant=grant))

    async def renew(self, grant: GrantRef) -> None:
        await self._call(self._stub.Renew, pb.RenewRequest(grant=grant, ttl=self._ttl))

    async def _call(self, method: Any, message: Any) -> Any:
        try:
            return await method(message, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise _refused(error) from None


class SdkLine(FrontLine):
    """The public SDK, which waits and asks again by itself when it is refused."""

    async def open(self, address: tuple[str, int], key: str) -> None:
        self._client = await holdfast.connect(f"holdfast://{address[0]}:{address[1]}", key)

    async def acquire(self, name: str) -> holdfast.Lock:
        return await self._told(self._client.lock(name, ttl=TTL_MS / 1000, wait=0, renew=False).acquire())

    async def release(self, grant: holdfast.Lock) -> bool:
        await self._told(grant.release())
        return True

    async def renew(self, grant: holdfast.Lock) -> None:
        await self._told(grant.renew())

    async def _told(self, asking: Coroutine[Any, Any, T]) -> T:
        try:
            return await asking
        except holdfast.HoldfastError as error:
            raise Refused(type(error).__name__, getattr(error, "retry_after_ms", 0)) from None


def _refused(error: grpc.aio.AioRpcError) -> Refused:
    status = status_pb2.Status()
    for name, value in error.trailing_metadata() or ():
        if name == "grpc-status-details-bin":
            status.ParseFromString(value)
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(retry)
    return Refused(info.reason or error.code().name, retry.retry_delay.ToMilliseconds())
