"""The standard services: health and reflection. Neither asks for an API key, nor tells anything of a tenant.

Their calls are strangers', and counted apart: they take no place from callers with a key, nor from each other's
addresses.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from holdfast.errors import BadMessage, HoldfastError, Overloaded
from holdfast.wire.crowd import Crowd
from holdfast.wire.limits import BUSY_RETRY_MS

from .calls import FIRST_MESSAGE_S, Context, address_of, first_of, readable, reader
from .statuses import DETAILS, details_of, message_of, status_of

HEALTH: Final = "grpc.health.v1.Health"
REFLECTION: Final = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
"""One format under two names: tools ask for either."""
STANDARD_MAX: Final = 1_000
STANDARD_PER_ADDRESS_MAX: Final = 100
"""Calls of these services under way at once, in all and of one address."""
LOOK_S: Final = 0.5
"""How soon who watches the health is told of a change."""
SILENT_S: Final = 30.0
"""A reflection stream on which nothing is asked for so long is ended."""


class StandardServices:
    """``names``: of the services to tell of; ``ready``: whether the router can serve."""

    def __init__(self, names: list[str], ready: Callable[[], bool]) -> None:
        self._known = {"", HEALTH, *names}
        self._ready = ready
        self._crowd = Crowd(STANDARD_MAX, STANDARD_PER_ADDRESS_MAX)
        self._reflection = reflection.aio.ReflectionServicer([HEALTH, *REFLECTION, *names])

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """As of all other services every caller sends a stream, also of one message."""
        read, write = reader(health_pb2.HealthCheckRequest), health_pb2.HealthCheckResponse.SerializeToString
        health = {
            "Check": grpc.stream_unary_rpc_method_handler(self._answered(self._check), read, write),
            "Watch": grpc.stream_stream_rpc_method_handler(self._streamed(self._watch), read, write),
        }
        read = reader(reflection_pb2.ServerReflectionRequest)
        write = reflection_pb2.ServerReflectionResponse.SerializeToString
        info = {
            "ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(self._streamed(self._reflect), read, write)
        }
        return [
            grpc.method_handlers_generic_handler(HEALTH, health),
            *(grpc.method_handlers_generic_handler(name, info) for name in REFLECTION),
        ]

    # Health.

    def _status(self, service: str) -> int:
        answer = health_pb2.HealthCheckResponse
        if service not in self._known:
            return int(answer.SERVICE_UNKNOWN)
        return int(answer.SERVING if self._ready() else answer.NOT_SERVING)

    async def _check(self, given: Any, context: Context) -> health_pb2.HealthCheckResponse:
        message = await first_of(context, FIRST_MESSAGE_S)
        if message.service not in self._known:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service here")
        return health_pb2.HealthCheckResponse(status=self._status(message.service))

    async def _watch(self, given: Any, context: Context) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        message = await first_of(context, FIRST_MESSAGE_S)
        told: int | None = None
        while True:
            now = self._status(message.service)
            if now != told:
                told = now
                yield health_pb2.HealthCheckResponse(status=now)
            await asyncio.sleep(LOOK_S)

    # Reflection.

    async def _reflect(self, given: Any, context: Context) -> AsyncIterator[reflection_pb2.ServerReflectionResponse]:
        async for response in self._reflection.ServerReflectionInfo(_each_within(SILENT_S, given), context):
            yield response

    # All of them.

    @contextmanager
    def _counted(self, context: Context) -> Iterator[None]:
        """While a call lasts. Raises :class:`Overloaded`."""
        address = address_of(context.peer())
        if not self._crowd.enter(address):
            raise Overloaded("too many calls of health and reflection are under way", BUSY_RETRY_MS)
        try:
            yield
        finally:
            self._crowd.leave(address)

    def _answered(self, run: Callable[[Any, Context], Awaitable[Any]]) -> Callable[[Any, Context], Awaitable[Any]]:
        async def handle(given: Any, context: Context) -> Any:
            try:
                with self._counted(context):
                    return await run(given, context)
            except HoldfastError as error:
                await _refuse(context, error)

        return handle

    def _streamed(
        self, run: Callable[[Any, Context], AsyncIterator[Any]]
    ) -> Callable[[Any, Context], AsyncIterator[Any]]:
        async def handle(given: Any, context: Context) -> AsyncIterator[Any]:
            try:
                with self._counted(context):
                    async for response in run(given, context):
                        yield response
            except HoldfastError as error:
                await _refuse(context, error)

        return handle


async def _refuse(context: Context, error: HoldfastError) -> None:
    await context.abort(status_of(error), message_of(error), ((DETAILS, details_of(error)),))


async def _each_within(silent_s: float, given: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """Raises :class:`BadMessage`, also when none comes for so long."""
    while True:
        try:
            async with asyncio.timeout(silent_s):
                message = await anext(given, None)
        except TimeoutError:
            raise BadMessage(f"nothing was asked for {silent_s:g} s: open another stream") from None
        if message is None:
            return
        yield readable(message)
