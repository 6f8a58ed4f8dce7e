"""A section on its way through the router."""

from __future__ import annotations

import msgspec


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
