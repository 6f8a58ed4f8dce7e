"""Servers that refuse whatever they are asked, in the words of the router: what a flood costs who sends it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import msgspec

from holdfast.wire.errors import Code, Throttled
from holdfast.wire.frames import Answers, encode
from holdfast.wire.limits import PROTOCOL_VERSION, SLOTS
from holdfast.wire.messages import Msg, Refusal, SlotTable, Welcome
from holdfast.wire.stream import Connection
from holdfast_router.grpc import statuses
from holdfast_router.http import problem_details

SAYS = "this is a sink"
RETRY_AFTER_MS = 100
WHY = Throttled(SAYS, RETRY_AFTER_MS, "rate", 1)


async def frames() -> None:
    """Welcomes and registers everybody, and refuses the rest."""
    table = encode(SlotTable(1, (1).to_bytes(2, "little") * SLOTS))
    refusal = encode(Refusal(Code.THROTTLED, SAYS, RETRY_AFTER_MS, 0, "rate", 1))
    registered = encode(Answers(b"\x00", [1], [0], {}))
    seen: set[Connection] = set()

    def on_message(connection: Connection, kind: int, group: int, request: int, body: bytes | None) -> None:
        if kind == Msg.HELLO:
            connection.send(Msg.WELCOME, 0, 0, encode(Welcome(PROTOCOL_VERSION, "sink", 1)))
            connection.send(Msg.TABLE, 0, 0, table)
        elif connection not in seen:
            seen.add(connection)
            connection.send(Msg.ANSWERS, group, request, registered)
        else:
            connection.send(Msg.REFUSED, group, request, refusal)

    await _serve(lambda: Connection(on_message, lambda c, e: seen.discard(c)))


class _HttpRefusal(asyncio.Protocol):
    """Each request comes in one piece: its sender waits for the answer before it writes another."""

    def __init__(self) -> None:
        details = problem_details.details_of(WHY)
        body = msgspec.json.encode(details)
        head = f"HTTP/1.1 {details.status} Too Many Requests\r\ncontent-type: {problem_details.MEDIA_TYPE}\r\n"
        self._answer = f"{head}retry-after: 1\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(self._answer)


async def http() -> None:
    await _serve(_HttpRefusal)


async def grpc_calls() -> None:
    details = ((statuses.DETAILS, statuses.details_of(WHY)),)

    async def refuse(message: bytes, context: Any) -> bytes:
        await context.abort(statuses.status_of(WHY), SAYS, details)
        raise AssertionError("abort raises")

    class Refuses(grpc.GenericRpcHandler):
        def service(self, handler_call_details: object) -> grpc.RpcMethodHandler[Any, Any]:
            return grpc.unary_unary_rpc_method_handler(refuse)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Refuses(),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()


async def _serve(protocol: Callable[[], asyncio.BaseProtocol]) -> None:
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


SINKS: dict[str, Callable[[], Awaitable[None]]] = {"frames": frames, "http": http, "grpc": grpc_calls, "sdk": frames}
"""Of what the flood comes by, as ``fairness.WAYS`` names it. Each prints its port first."""
