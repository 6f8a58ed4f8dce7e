"""A client of the floor: what is asked for within one turn of the loop leaves as one frame, with four under way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any

from loadtests.floor.wire import ACQUIRE, DONE, RELEASE, Link, Operations, decode_outcomes, dial, encode

from . import Refused

TTL_MS = 30_000
WINDOW = 4
ERRORS: tuple[type[Exception], ...] = ()

Answer = asyncio.Future[tuple[int, int]]


class Pipeline:
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._open = Operations.empty()
        self._asking: list[Answer] = []
        self._under_way: dict[int, list[Answer]] = {}
        self._sent = 0
        self._scheduled = False

    async def dial(self, port: int) -> None:
        self._link = await dial(port, self._on_frame)

    async def acquire(self, name: str) -> str:
        status, _ = await self._ask(ACQUIRE, name)
        if status != DONE:
            raise Refused(name)
        return name

    def release(self, held: str) -> Awaitable[tuple[int, int]]:
        return self._ask(RELEASE, held)

    def _ask(self, kind: int, name: str) -> Answer:
        self._open.add(kind, name, 1, TTL_MS)
        answer: Answer = self._loop.create_future()
        self._asking.append(answer)
        self._schedule()
        return answer

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if not self._asking or len(self._under_way) >= WINDOW:
            return
        self._sent += 1
        self._under_way[self._sent] = self._asking
        self._link.send(self._sent, 0, encode(self._open))
        self._open, self._asking = Operations.empty(), []

    def _on_frame(self, link: Link, number: int, group: int, body: bytes) -> None:
        outcomes = decode_outcomes(body)
        for answer, status, token in zip(self._under_way.pop(number), outcomes.statuses, outcomes.tokens, strict=True):
            if not answer.done():
                answer.set_result((status, token))
        self._schedule()

    async def close(self) -> None:
        self._link.close()


async def connect(target: Mapping[str, Any], workers: int) -> Pipeline:
    pipeline = Pipeline()
    await pipeline.dial(target["port"])
    return pipeline
