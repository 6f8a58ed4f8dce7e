"""The standard services: health and reflection. Neither asks for an API key, nor tells anything of a tenant."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from holdfast.errors import BadMessage

from .calls import Context, each_readable, readable, reader

HEALTH: Final = "grpc.health.v1.Health"
REFLECTION: Final = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
"""One format under two names: tools ask for either."""
LOOK_S: Final = 0.5
"""How soon who watches the health is told of a change."""


def health_handler(services: list[str], ready: Callable[[], bool]) -> grpc.GenericRpcHandler:
    known = {"", HEALTH, *services}

    def status(service: str) -> int:
        if service not in known:
            return int(health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
        answer = health_pb2.HealthCheckResponse
        return int(answer.SERVING if ready() else answer.NOT_SERVING)

    async def check(given: Any, context: Context) -> health_pb2.HealthCheckResponse:
        message = await _read(given, context)
        if message.service not in known:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service here")
        return health_pb2.HealthCheckResponse(status=status(message.service))

    async def watch(given: Any, context: Context) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        message = await _read(given, context)
        told: int | None = None
        while True:
            now = status(message.service)
            if now != told:
                told = now
                yield health_pb2.HealthCheckResponse(status=now)
            await asyncio.sleep(LOOK_S)

    read, write = reader(health_pb2.HealthCheckRequest), health_pb2.HealthCheckResponse.SerializeToString
    methods = {
        "Check": grpc.unary_unary_rpc_method_handler(check, read, write),
        "Watch": grpc.unary_stream_rpc_method_handler(watch, read, write),
    }
    return grpc.method_handlers_generic_handler(HEALTH, methods)


def reflection_handlers(services: list[str]) -> list[grpc.GenericRpcHandler]:
    servicer = reflection.aio.ReflectionServicer([HEALTH, *REFLECTION, *services])

    async def info(given: Any, context: Context) -> AsyncIterator[reflection_pb2.ServerReflectionResponse]:
        try:
            async for response in servicer.ServerReflectionInfo(each_readable(given), context):
                yield response
        except BadMessage as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))

    read = reader(reflection_pb2.ServerReflectionRequest)
    write = reflection_pb2.ServerReflectionResponse.SerializeToString
    methods = {"ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(info, read, write)}
    return [grpc.method_handlers_generic_handler(name, methods) for name in REFLECTION]


async def _read(given: Any, context: Context) -> Any:
    try:
        return readable(given)
    except BadMessage as error:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
