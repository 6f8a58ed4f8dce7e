"""Users of the SDK and of gRPC: greenlets whose calls are carried out by the process ``host``, which says why."""

from __future__ import annotations

import contextlib
import itertools
import sys
from pathlib import Path
from typing import Any, ClassVar, Final

import gevent
import msgspec
from gevent import socket, subprocess
from gevent.event import AsyncResult
from gevent.lock import BoundedSemaphore
from gevent.queue import Queue
from locust import User

from .host_messages import CLOSE, HEAD, OPEN, Ask, Told, framed
from .user import Customer
from .vocabulary import NotDone

ROOT: Final = Path(__file__).parents[2]
RECEIVED_MAX: Final = 1 << 16
decode = msgspec.msgpack.Decoder(Told).decode


class HostEnded(Exception):
    """The process that runs the SDK is gone; what it wrote before says why."""


class HostLink:
    """To one ``host``, which ends with this process."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        command = [sys.executable, "-m", "loadtests.locust.host", str(theirs.fileno())]
        # In a session of its own: an interrupt from the keyboard is Locust's, which then ends it in order.
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], cwd=ROOT, start_new_session=True)
        theirs.close()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, AsyncResult[Told]] = {}
        self._outgoing: Queue[bytes] = Queue()
        self._ended = False
        gevent.spawn(self._write)
        gevent.spawn(self._read)

    def ask(self, caller: int, verb: str, arguments: dict[str, Any]) -> Told:
        """Raises :class:`HostEnded`."""
        number = next(self._numbers)
        answer: AsyncResult[Told] = AsyncResult()
        self._waiting[number] = answer
        try:
            self._send(Ask(number, caller, verb, arguments))
            told: Told = answer.get()
            return told
        finally:
            self._waiting.pop(number, None)

    def tell(self, caller: int, verb: str) -> None:
        """The answer is not waited for."""
        self._send(Ask(0, caller, verb, {}))

    def _send(self, ask: Ask) -> None:
        if self._ended:
            raise HostEnded("the process that runs the SDK has ended")
        self._outgoing.put(framed(ask))

    def _write(self) -> None:
        # By a greenlet of its own: a user may be killed at any time, and must not leave half a message behind.
        with contextlib.suppress(OSError):
            while True:
                self._socket.sendall(self._outgoing.get())

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            self._receive()
        self._ended = True
        for waiting in self._waiting.values():
            waiting.set_exception(HostEnded(f"the process that runs the SDK ended with code {self._process.wait()}"))

    def _receive(self) -> None:
        received = b""
        while data := self._socket.recv(RECEIVED_MAX):
            received += data
            at = 0
            while len(received) - at >= HEAD.size:
                (length,) = HEAD.unpack_from(received, at)
                if len(received) - at < HEAD.size + length:
                    break
                told = decode(received[at + HEAD.size : at + HEAD.size + length])
                at += HEAD.size + length
                if waiting := self._waiting.get(told.number):
                    waiting.set(told)
            received = received[at:]


class HostedUser(Customer, User):
    """One client with a connection of its own."""

    abstract = True
    tasks = [Customer.perform]  # noqa: RUF012 - as Locust declares it
    through: ClassVar[str]

    _link: ClassVar[HostLink | None] = None
    _linking: ClassVar = BoundedSemaphore()
    _callers: ClassVar = itertools.count(1)

    def address(self) -> str:
        """Of the service, for this kind of client."""
        raise NotImplementedError

    def connect(self) -> None:
        # Made by the first user, and not when this is imported: Locust forks its workers after that.
        with HostedUser._linking:
            if HostedUser._link is None:
                HostedUser._link = HostLink()
        self._host = HostedUser._link
        self._caller = next(HostedUser._callers)
        self.ask(OPEN, through=self.through, address=self.address(), api_key=self.api_key)

    def disconnect(self) -> None:
        self._host.tell(self._caller, CLOSE)

    def ask(self, verb: str, **arguments: Any) -> Any:
        told = self._host.ask(self._caller, verb, arguments)
        why = NotDone(told.code, told.text, told.retry_after_ms) if told.code else None
        self.count_one(self.through.upper(), verb, told.took_ms, why)
        if why is not None:
            raise why
        return told.value


class SdkUser(HostedUser):
    abstract = True
    through = "sdk"

    def address(self) -> str:
        return str(self.options.url)


class GrpcUser(HostedUser):
    abstract = True
    through = "grpc"

    def address(self) -> str:
        return str(self.options.grpc)
