"""Two clients of one peer on one name, each with a connection and a session of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from .clients import ClientModule, InThreads, Refused, TaskClient
from .parts import Part, Seen

EXCLUDED_S = 0.3
TURN_TIMEOUT_S = 30.0


class NotExclusive(Exception):
    """A peer granted a name twice, or did not let go of it: its figures would mean nothing."""


class Turns(Protocol):
    """A client that says when its calls began or ended, by CLOCK_MONOTONIC, where they are made."""

    async def acquire(self, name: str) -> tuple[Any, float]:
        """What is held, and when the call returned."""

    async def release(self, held: Any) -> float:
        """When the call was made."""


class TaskTurns:
    def __init__(self, client: TaskClient) -> None:
        self._client = client

    async def acquire(self, name: str) -> tuple[Any, float]:
        held = await self._client.acquire(name)
        return held, time.monotonic()

    async def release(self, held: Any) -> float:
        began = time.monotonic()
        await self._client.release(held)
        return began


class ThreadTurns:
    """The clock is read in the thread that calls, so that passing it to and fro counts for nothing."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def acquire(self, name: str) -> tuple[Any, float]:
        def call() -> tuple[Any, float]:
            held = self._client.acquire(name)
            return held, time.monotonic()

        return await asyncio.to_thread(call)

    async def release(self, held: Any) -> float:
        def call() -> float:
            began = time.monotonic()
            self._client.release(held)
            return began

        return await asyncio.to_thread(call)


async def hand_offs(module: ClientModule, part: Part) -> Seen:
    """They alternate: who holds lets go after ``hold_s``, when the other has long waited. From the release call to the
    other's grant."""
    one, other = await _two(module, part, TaskTurns, ThreadTurns)
    print("ready", flush=True)
    seen = Seen()
    held, _ = await one.acquire(part.run)
    until = time.monotonic() + part.seconds
    while time.monotonic() < until:
        waiting = asyncio.create_task(other.acquire(part.run))
        await asyncio.sleep(part.hold_s)
        if waiting.done():
            raise NotExclusive("granted to one while the other held it")
        released = await one.release(held)
        held, granted = await asyncio.wait_for(waiting, TURN_TIMEOUT_S)
        seen.handoffs.append(granted - released)
        one, other = other, one
    return seen


async def prove(module: ClientModule, part: Part) -> Seen:
    """Raises :class:`NotExclusive`."""
    one, other = await _two(module, part, lambda client: client, InThreads)
    print("ready", flush=True)
    held = await one.acquire(part.run)
    waiting = asyncio.create_task(other.acquire(part.run))
    done, _ = await asyncio.wait({waiting}, timeout=EXCLUDED_S)
    refused = bool(done) and isinstance(waiting.exception(), Refused)
    if done and not refused:
        waiting.result()
        raise NotExclusive("granted to a second while the first held it")
    await one.release(held)
    if refused:
        waiting = asyncio.create_task(other.acquire(part.run))
    await other.release(await asyncio.wait_for(waiting, TURN_TIMEOUT_S))
    await one.release(await asyncio.wait_for(one.acquire(part.run), TURN_TIMEOUT_S))
    return Seen()


async def _two(
    module: ClientModule, part: Part, of_tasks: Callable[[Any], Any], of_threads: Callable[[Any], Any]
) -> Sequence[Any]:
    if part.threads:
        return [of_threads(await asyncio.to_thread(module.connect, part.target, 1)) for _ in range(2)]
    return [of_tasks(await module.connect(part.target, 1)) for _ in range(2)]
