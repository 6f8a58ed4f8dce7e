"""Node processes and a caller that speaks their frames, for tests that want nothing in between."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from holdfast.wire.frames import Answers, decode_answer_list, encode
from holdfast.wire.limits import PROTOCOL_VERSION
from holdfast.wire.messages import FrameRequest, Hello, Msg, Refusal, Role, decode_refusal
from holdfast.wire.stream import Connection


def free_addresses(count: int) -> list[str]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return addresses


def run(*arguments: str, timeout_s: float = 20) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "holdfast_shard", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


class NodeProcess:
    def __init__(self, directory: Path, *extra: str) -> None:
        self.directory = directory
        self._log = open(directory.parent / f"{directory.name}.log", "a")  # noqa: SIM115 - closed in stop
        self.process = subprocess.Popen(
            [sys.executable, "-m", "holdfast_shard", "node", "--data", str(directory), *extra],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        assert self.process.stdout is not None
        self.line: dict[str, Any] = json.loads(self.process.stdout.readline())

    @property
    def address(self) -> str:
        return str(self.line["address"])

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.close()
        return code


class Refused(Exception):
    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class Caller:
    """One connection to a node, as a router would open it."""

    opened: ClassVar[list[Caller]] = []

    def __init__(self) -> None:
        self.messages: asyncio.Queue[tuple[int, int, int, bytes]] = asyncio.Queue()
        self.closed = asyncio.Event()
        self._request = 0
        self.connection: Connection

    async def dial(self, address: str) -> None:
        host, _, port = address.rpartition(":")

        def on_message(connection: Connection, kind: int, group: int, request: int, body: bytes | None) -> None:
            if kind == Msg.PING:
                connection.send(Msg.PONG, 0, request, b"")
            else:
                self.messages.put_nowait((kind, group, request, body or b""))

        _, self.connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(on_message, lambda c, e: self.closed.set()), host, int(port)
        )
        self.opened.append(self)

    @classmethod
    async def close_all(cls) -> None:
        for caller in cls.opened:
            caller.connection.abort()
            await caller.closed.wait()
        cls.opened.clear()
        # Transports close in the turn after.
        await asyncio.sleep(0)

    async def hello(self, formation: dict[str, Any], **fields: Any) -> tuple[int, bytes]:
        """Kind and body of the first message that comes back."""
        values = {"role": Role.ROUTER, "key": formation["secret"], "cluster": formation["cluster"], **fields}
        self.connection.send(Msg.HELLO, 0, 0, encode(Hello(values.pop("version", PROTOCOL_VERSION), **values)))
        kind, _, _, body = await self.next()
        return kind, body

    async def refused(self, formation: dict[str, Any], **fields: Any) -> int:
        """The code that such a HELLO is refused with."""
        kind, body = await self.hello(formation, **fields)
        assert kind == Msg.REFUSED
        return decode_refusal(body).code

    async def next(self) -> tuple[int, int, int, bytes]:
        async with asyncio.timeout(10):
            return await self.messages.get()

    async def ask(self, kind: int, group: int, body: bytes) -> Any:
        """The answer to one request: ``list[Answers]``, or the map of a status. Raises :class:`Refused`."""
        self._request += 1
        self.connection.send(kind, group, self._request, body)
        while True:
            answer, _, request, data = await self.next()
            if request != self._request:
                continue
            if answer == Msg.REFUSED:
                raise Refused(decode_refusal(data))
            return msgspec.msgpack.decode(data) if answer == Msg.STATUS else decode_answer_list(data)


async def until_leads(formation: dict[str, Any], addresses: list[str], group: int = 1) -> Caller:
    """A caller of the node that leads ``group`` and serves."""
    async with asyncio.timeout(20):
        while True:
            for address in addresses:
                caller = Caller()
                try:
                    await caller.dial(address)
                except OSError:
                    continue
                await caller.hello(formation)
                status = await caller.ask(Msg.STATUS, 0, b"")
                if any(row["group"] == group and row["ready"] for row in status["groups"]):
                    return caller
                caller.connection.close()
            await asyncio.sleep(0.02)


async def operate(caller: Caller, body: bytes, group: int = 1) -> Answers:
    answers: list[Answers] = await caller.ask(Msg.OPS, group, encode(FrameRequest([], msgspec.Raw(body))))
    return answers[0]
