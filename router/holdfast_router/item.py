"""What is on its way through the router: sections, the frames they travel in, and what became of them.

Apart from those who handle them, for extensions cannot define what msgspec makes (ADR 7)."""

from __future__ import annotations

import msgspec

from holdfast.wire.messages import Refusal


class Item(msgspec.Struct, eq=False):
    """A stamped section under way; equal to itself alone.

    ``caller`` and ``request`` say whom to answer; times are of the loop's clock.
    """

    caller: object
    request: int
    kind: int
    body: bytes
    deadline: float
    client: int = 0
    operations: int = 1
    tenant: int = 0
    weight: int = 1
    """The tenant's share of a busy group beside others."""
    exempt: bool = False
    """Whether it is what holders need (:mod:`exempt`): it goes first and is not refused for load."""
    arrived: float = 0.0
    sends: int = 0
    """How often it was put into a frame."""
    copies: int = 0
    """How many left for a node and were not certainly refused: any of them may have been or be carried out."""
    done: bool = False


class Frame(msgspec.Struct):
    """To be sent to ``node``."""

    node: int
    kind: int
    request: int
    body: bytes


class Outcome(msgspec.Struct, eq=False):
    item: Item
    answers: bytes | None
    refusal: Refusal | None = None


class Launch(msgspec.Struct, frozen=True, gc=False):
    """What is known of a flight when it leaves."""

    at: float
    operations: int
    under_way: int
    """Operations in flight with it."""


class Flight(msgspec.Struct, eq=False):
    node: int
    term: int
    kind: int
    launch: Launch
    items: list[Item]
