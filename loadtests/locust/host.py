"""Runs the SDK, and gRPC clients, for the users of one Locust process: ``python -m loadtests.locust.host FD``.

Locust replaces sockets, threads and locks of its whole process by gevent's. An asyncio loop under these would share
gevent's hub or block it, and uvloop and gRPC, which are written in C, pass them by. So the asyncio SDK runs in a
process of its own, one for each process of Locust, as a program of its own would run it: nothing there is patched, the
loop is uvloop where there is one, and its times are not lengthened by greenlets that wait their turn. ``holdfast.sync``
within Locust's process would not do: its loop, in a background thread, would be under the patched sockets; nor would a
gRPC channel, but for gRPC's experimental gevent mode. The process ends when Locust's end of the socket is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import Coroutine
from typing import Any

import grpc
import msgspec

from holdfast.errors import HoldfastError

from . import grpc_calls, sdk_calls
from .host_messages import CLOSE, HEAD, OPEN, Ask, Told, framed
from .vocabulary import NotDone

Calls = sdk_calls.SdkCalls | grpc_calls.GrpcCalls


class Host:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._callers: dict[int, Calls] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        decode = msgspec.msgpack.Decoder(Ask).decode
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                (length,) = HEAD.unpack(await self._reader.readexactly(HEAD.size))
                task = asyncio.create_task(self._answer(decode(await self._reader.readexactly(length))))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        await asyncio.gather(*(calls.close() for calls in self._callers.values()), return_exceptions=True)

    async def _answer(self, ask: Ask) -> None:
        began = time.perf_counter()
        try:
            value = await self._carry_out(ask)
        except Exception as error:  # noqa: BLE001 - whatever it is, the user that waits for it counts it
            took_ms = 1000 * (time.perf_counter() - began)
            why = _explained(error)
            told = Told(ask.number, took_ms, None, why.code, str(why), why.retry_after_ms)
        else:
            told = Told(ask.number, 1000 * (time.perf_counter() - began), value)
        self._writer.write(framed(told))

    async def _carry_out(self, ask: Ask) -> Any:
        if ask.verb == OPEN:
            self._callers[ask.caller] = await _opened(**ask.arguments)
            return None
        if ask.verb == CLOSE:
            if calls := self._callers.pop(ask.caller, None):
                await calls.close()
            return None
        return await getattr(self._callers[ask.caller], ask.verb.replace(" ", "_"))(**ask.arguments)


async def _opened(through: str, address: str, api_key: str) -> Calls:
    return await (sdk_calls.opened if through == "sdk" else grpc_calls.opened)(address, api_key)


def _explained(error: Exception) -> NotDone:
    if isinstance(error, HoldfastError):
        return sdk_calls.explained(error)
    if isinstance(error, grpc.aio.AioRpcError):
        return grpc_calls.explained(error)
    return NotDone("load-test-error", repr(error))


async def _serve(descriptor: int) -> None:
    await Host(*await asyncio.open_connection(sock=socket.socket(fileno=descriptor))).serve()


def _run(work: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop  # noqa: PLC0415 - an extra of the servers, which the SDK does without
    except ModuleNotFoundError:
        asyncio.run(work)
    else:
        uvloop.run(work)


if __name__ == "__main__":
    _run(_serve(int(sys.argv[1])))
