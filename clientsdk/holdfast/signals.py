"""Something that happens at most once and that any number of tasks may await."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Generic, TypeVar

T = TypeVar("T")


class Signal(Generic[T]):
    """``await signal`` ends with its value, at once when set. Cancelling a task that awaits it disturbs no other."""

    __slots__ = ("_value", "_waiters")

    def __init__(self) -> None:
        self._value: T | None = None
        self._waiters: dict[asyncio.Future[T], None] = {}

    @property
    def value(self) -> T | None:
        """None until it is set."""
        return self._value

    def is_set(self) -> bool:
        return self._value is not None

    def set(self, value: T) -> None:
        """The first value counts."""
        if self._value is not None:
            return
        self._value = value
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(value)

    async def wait(self) -> T:
        """For where a coroutine is wanted."""
        return await self

    def __await__(self) -> Generator[object, None, T]:
        if self._value is not None:
            return self._value
        waiter: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        try:
            return (yield from waiter)
        finally:
            self._waiters.pop(waiter, None)
