"""What those who send need of the client that they belong to."""

from __future__ import annotations

from random import Random
from typing import Protocol

from holdfast.wire.messages import Refusal

from .retry_pace import RetryPace


class Receiver(Protocol):
    """Who gets the answer to a request."""

    def answered(self, request: int, body: bytes) -> None: ...
    def refused(self, request: int, refusal: Refusal) -> None: ...


class Post(Protocol):
    """The client, as a lane sees it."""

    rng: Random
    timeout_ms: float
    connected: bool
    trouble: str
    """The last thing that went wrong on the way, for error messages."""
    retries: RetryPace
    vouched: bool
    """Whether sessions said by their ids are our callers' own: of a router's other fronts."""

    def clock(self) -> float: ...
    def wake(self, due_ms: float) -> None: ...
    def flush_soon(self) -> None: ...
    def transmit(self, receiver: Receiver, kind: int, group: int, body: bytes) -> int: ...
