"""What clients may believe, from what they were told alone: nothing is taken away that somebody still counts on.

The worst client that the contract allows: every event but a grant is lost on the way to it, it extends its belief by
whatever a keepalive's answer allows, and asks for its holds only when it must (``docs/design.md``, 5 and 6.4).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from holdfast.wire.frames import Event, EventKind, HoldsView, Kind, Stamped, Status
from tests.machine.reference import Answer, Asked, operations_of

LeaseKey = tuple[int, int, int]
"""(tenant, client, lease)."""


@dataclass(slots=True)
class Belief:
    """One hold that a client counts on until its own reading of ``until``."""

    tenant: int
    name: str
    token: int
    until: int


class Beliefs:
    def __init__(self, holds_of: Callable[[int, int, int], HoldsView]) -> None:
        self._holds_of = holds_of
        """(tenant, client, lease): a read of what a lease has."""
        self._held: dict[LeaseKey, dict[int, Belief]] = {}
        """By token."""
        self._given: set[tuple[int, int]] = set()
        """(tenant, token) that an answer or an event has told of."""
        self._change: dict[LeaseKey, int] = {}
        self._asked: dict[tuple[int, int, int], int] = {}
        """(tenant, client, seq) -> reading of the entry that carried it first."""

    def told(
        self, clock: int, frames: list[list[Stamped]], answers: list[list[list[Answer]]], events: list[Event]
    ) -> None:
        """An entry was applied at ``clock``. Grants first, for what else it did may have ended them again."""
        found = [
            (stamp.tenant, stamp.section.client, asked, answer)
            for stamps, parts in zip(frames, answers, strict=True)
            for stamp, part in zip(stamps, parts, strict=True)
            for asked, answer in zip(operations_of(stamp.section), part, strict=True)
        ]
        # An answer that comes again counts from the first sending still: it tells nothing new.
        new: list[int] = []
        for at, (tenant, client, asked, _) in enumerate(found):
            if (tenant, client, asked.seq) not in self._asked:
                self._asked[tenant, client, asked.seq] = clock
                new.append(at)
        for event in events:
            if event.kind == EventKind.GRANTED:
                self._granted(event)
        for at, (tenant, client, asked, answer) in enumerate(found):
            self._answer(clock, tenant, client, asked, answer, first=at in new)

    def _granted(self, event: Event) -> None:
        """A grant moves no deadline: it counts from the waiter's own acquire."""
        asked = self._asked[event.tenant, event.client, event.seq]
        self._given.add((event.tenant, event.token))
        belief = Belief(event.tenant, event.name, event.token, asked + event.deadline_ms)
        self._held.setdefault((event.tenant, event.client, event.lease), {})[event.token] = belief

    def known(self, lease: LeaseKey) -> int:
        """The change number that the client knows."""
        return self._change.get(lease, 0)

    def living(self, clock: int) -> list[Belief]:
        found = [belief for held in self._held.values() for belief in held.values()]
        return [belief for belief in found if belief.until > clock]

    def _answer(self, clock: int, tenant: int, client: int, asked: Asked, answer: Answer, *, first: bool) -> None:
        status, token, deadline, _ = answer
        lease = (tenant, client, asked.lease or asked.seq)
        if asked.kind == Kind.ACQUIRE:
            if asked.options.steal and asked.options.now:
                self._forget_name(tenant, asked.name)
            # What was asked for again under its request id is the first copy's, which may let go of it.
            again = (tenant, token) in self._given
            self._given.add((tenant, token))
            if status == Status.OK and first and not again:
                belief = Belief(tenant, asked.name, token, clock + deadline)
                self._held.setdefault(lease, {})[token] = belief
        elif asked.kind == Kind.KEEPALIVE and status in (Status.OK, Status.CHANGED) and first:
            if not asked.options.session:  # what was said of a session by its id tells nothing of its holds
                self._alive(clock, lease, asked, status, deadline)
        elif asked.kind == Kind.RELEASE:
            # Also by somebody else: whoever has the token may let go for the holder.
            self._forget_token(tenant, asked)
        elif asked.kind == Kind.RENEW and asked.options.session and status == Status.OK:
            # Likewise: the session has it now, and whoever ends that.
            self._forget_token(tenant, asked)
        elif asked.kind == Kind.FORCE and asked.options.now:
            self._forget_name(tenant, asked.name)
        elif asked.kind == Kind.CANCEL:
            self._held.pop((tenant, client, asked.lease or asked.token), None)
        elif asked.kind == Kind.END and (not asked.options.session or asked.options.now):
            self._end(lease, whole_tenant=bool(asked.options.session))

    def _end(self, lease: LeaseKey, *, whole_tenant: bool) -> None:
        """Whose session another ended is not known here: then nobody of the tenant counts on anything any more."""
        self._held.pop(lease, None)
        if whole_tenant:
            self._held = {key: held for key, held in self._held.items() if key[0] != lease[0]}

    def _alive(self, clock: int, lease: LeaseKey, asked: Asked, status: int, deadline: int) -> None:
        held = self._held.get(lease, {})
        if status == Status.OK and asked.token == self.known(lease):
            for belief in held.values():
                belief.until = max(belief.until, clock + deadline)
            return
        view = self._holds_of(*lease)
        self._change[lease] = view.change
        tenant, client, _ = lease
        rows = {row.token: self._asked[tenant, client, row.seq] + row.deadline_ms for row in view.held if row.seq}
        self._held[lease] = {
            row.token: Belief(tenant, row.name, row.token, rows[row.token])
            for row in view.held
            if row.token in held and row.seq
        }

    def _forget_token(self, tenant: int, asked: Asked) -> None:
        for held in self._held.values():
            belief = held.get(asked.token)
            if belief is not None and (belief.tenant, belief.name) == (tenant, asked.name):
                del held[asked.token]

    def _forget_name(self, tenant: int, name: str) -> None:
        for held in self._held.values():
            for token in [token for token, belief in held.items() if (belief.tenant, belief.name) == (tenant, name)]:
                del held[token]
