"""Clients of the peers. A module has ``connect(target, workers)`` and ``ERRORS``, what its calls raise when a peer
fails; only load processes import it, so that nobody needs a library of a peer that is not asked for."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Mapping
from typing import Any, Protocol, cast


class Refused(Exception):
    """A name is another's, and this kind of client does not wait."""


class TaskClient(Protocol):
    """What ``connect`` of a module of `Shape.TASKS` gives, awaited."""

    async def acquire(self, name: str) -> Any:
        """What to release. Waits for its turn, or raises :class:`Refused`."""

    def release(self, held: Any) -> Awaitable[object]: ...

    async def close(self) -> None: ...


class ThreadClient(Protocol):
    """The same with calls that block (`Shape.THREADS`)."""

    def acquire(self, name: str) -> Any: ...

    def release(self, held: Any) -> object: ...

    def close(self) -> None: ...


class ClientModule(Protocol):
    ERRORS: tuple[type[Exception], ...]

    def connect(self, target: Mapping[str, Any], workers: int) -> Any: ...


def module_of(name: str) -> ClientModule:
    return cast(ClientModule, importlib.import_module(f"{__name__}.{name}"))


class InThreads:
    """A client that blocks, for whoever awaits."""

    def __init__(self, client: ThreadClient) -> None:
        self._client = client

    async def acquire(self, name: str) -> Any:
        return await asyncio.to_thread(self._client.acquire, name)

    async def release(self, held: Any) -> None:
        await asyncio.to_thread(self._client.release, held)

    async def close(self) -> None:
        await asyncio.to_thread(self._client.close)
