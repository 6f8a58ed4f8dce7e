"""What callers send on its way through the router: admitted, checked, stamped, given to its group, and answered."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

from holdfast.wire.errors import Code, HoldfastError
from holdfast.wire.frames import FIRST_READ, Kind
from holdfast.wire.messages import Msg, Refusal, SlotTable, WatchRequest, refusal_of
from holdfast.wire.tenants import KeyRole

from .admission.gate import Gate
from .admission.verdict import LATER, Verdict
from .asking import Question
from .charge import charge_of
from .control import Control, acts_of
from .directory import WITHOUT_META, Directory
from .downstream import Downstream
from .groups import Groups, no_such_group
from .item import Item, Outcome
from .routes import Routes
from .stamping import Stamper
from .watches import Watches

_REGISTER: Final = bytes([Kind.REGISTER])
_FORCE: Final = int(Kind.FORCE)
_ANSWERS: Final = int(Msg.ANSWERS)
_OF_CLIENTS: Final = (int(Kind.HOLDS), int(Kind.TICKETS))
"""Reads that are answered to the client alone; others, whoever asks: they prove nothing about the number."""
_DELETED: Final = Refusal(Code.UNAUTHENTICATED, "this tenant was deleted")


class Requests:
    """Nothing may come before :meth:`follow` was called."""

    def __init__(
        self,
        directory: Directory,
        gate: Gate,
        groups: Groups,
        control: Control,
        watches: Watches,
        routes: Routes,
    ) -> None:
        self._directory = directory
        self._gate = gate
        self._groups = groups
        self._control = control
        self._watches = watches
        self._routes = routes
        self._loop = asyncio.get_running_loop()
        self._stamper: Stamper | None = None
        self._watches_asked: set[tuple[Downstream, int]] = set()
        """Those that the gate has yet to decide."""

    def follow(self, table: SlotTable) -> None:
        """Names belong to these groups from now on."""
        self._stamper = Stamper(table)

    def on_section(
        self, caller: Downstream, kind: int, group: int, request: int, deadline_s: float, section: bytes
    ) -> None:
        assert self._stamper is not None, "nobody is welcomed before the slot table is known"
        if not self._groups.serves(group):
            caller.answered()
            caller.refuse(group, request, no_such_group(group))
            return
        principal = caller.principal
        assert principal is not None, "only who was welcomed asks"
        tenant = self._directory.tenant(principal.tenant)
        if tenant is None:
            caller.answered()
            caller.refuse(group, request, _DELETED)
            return
        now = self._loop.time()
        operations, exempt = charge_of(section, vouched=caller.is_router)
        # Before it is charged or read: refusing must cost little when there is much to refuse.
        refusal = None if exempt else caller.haste.alike(group, kind, deadline_s, len(section))
        if refusal is not None:
            self._turn_away(caller, group, refusal, operations)
            caller.refuse(group, request, refusal)
            return
        item = Item(
            caller, request, kind, section, now + deadline_s, operations=operations,
            tenant=tenant.number, weight=tenant.weight, exempt=exempt, arrived=now,
        )  # fmt: skip
        refusal = self._groups.refusal(group, item)
        if refusal is not None:
            self._turn_away(caller, group, refusal, operations)
            caller.refuse_for_load(group, request, refusal, kind, deadline_s, len(section))
        elif caller.is_router:
            self._carry(caller, group, item, looked=True)
        else:
            verdict = self._gate.ask(principal.tenant, operations, exempt=exempt)
            if verdict is None:
                caller.admitted += operations
                self._carry(caller, group, item, looked=True)
            elif verdict is LATER:
                self._gate.wait(principal.tenant, operations, partial(self._judged, caller, group, item))
            else:
                caller.answered()
                caller.refuse(group, request, refusal_of(verdict.error()))

    def _turn_away(self, caller: Downstream, group: int, refusal: Refusal, operations: int) -> None:
        """Count so many operations that are refused for load before they are charged."""
        assert caller.principal is not None
        self._groups.count_refused(group, refusal, operations)
        self._gate.overloaded(caller.principal.tenant, operations)
        caller.answered()

    def _judged(self, caller: Downstream, group: int, item: Item, verdict: Verdict) -> None:
        """What the gate says of a section after a look at Redis."""
        if verdict is None:
            caller.admitted += item.operations
        if caller.connection.closed:
            self._end(caller, caller.admitted, 0.0)
        elif verdict is not None:
            caller.answered()
            caller.refuse(group, item.request, refusal_of(verdict.error()))
        else:
            self._carry(caller, group, item, looked=False)

    def _carry(self, caller: Downstream, group: int, item: Item, *, looked: bool) -> None:
        """Stamp what was admitted and give it to its group. ``looked``: that has room for it, as was seen just now."""
        assert self._stamper is not None
        principal = caller.principal
        assert principal is not None
        try:
            item.body, decoded = self._stamper.stamp(principal, group, item.kind, item.body)
            kinds = decoded.kinds
            if kinds.translate(None, WITHOUT_META):
                self._directory.check_fresh()
        except HoldfastError as error:
            self._end(caller, item.operations, 0.0)
            caller.answered()
            caller.refuse(group, item.request, refusal_of(error))
            return
        if kinds == _REGISTER:
            item.client = -1
        elif kinds[0] < FIRST_READ or kinds[0] in _OF_CLIENTS:
            item.client = decoded.client
        # What the router asks for its callers was noted as theirs.
        suspect = (decoded.options or _FORCE in kinds) and principal.role == KeyRole.ADMIN and not caller.is_router
        if suspect and acts_of(decoded):
            self._control.carry_noted(group, item, decoded, max(item.deadline - self._loop.time(), 0.0))
        else:
            self._groups.submit(group, item, looked=looked)

    def _end(self, caller: Downstream, operations: int, took_s: float) -> None:
        """So many operations of its are under way no more."""
        assert caller.principal is not None
        if operations and not caller.is_router:
            caller.admitted -= operations
            self._gate.ended(caller.principal.tenant, operations, took_s)

    def on_watch(self, caller: Downstream, group: int, request: int, body: bytes) -> None:
        assert self._stamper is not None, "nobody is welcomed before the slot table is known"
        if not self._groups.serves(group):
            caller.refuse(group, request, no_such_group(group))
            return
        try:
            assert caller.principal is not None, "only who was welcomed asks"
            asked = self._stamper.watch(caller.principal, group, body)
        except HoldfastError as error:
            caller.refuse(group, request, refusal_of(error))
            return
        if not asked.on:
            self._watches_asked.discard((caller, request))
            self._watches.end(caller, request)
            return
        self._watches_asked.add((caller, request))
        decided = partial(self._watch_judged, caller, group, request, asked)
        verdict = None if caller.is_router else self._gate.ask(caller.principal.tenant, 1)
        if verdict is LATER:
            self._gate.wait(caller.principal.tenant, 1, decided)
        else:
            decided(verdict)

    def _watch_judged(
        self, caller: Downstream, group: int, request: int, asked: WatchRequest, verdict: Verdict
    ) -> None:
        """What the gate says of a watch: it costs what a look costs."""
        assert caller.principal is not None
        tenant = caller.principal.tenant
        if verdict is None and not caller.is_router:
            self._gate.ended(tenant, 1, 0.0)
        if (caller, request) not in self._watches_asked:
            return  # given up meanwhile
        self._watches_asked.discard((caller, request))
        if caller.connection.closed:
            return
        try:
            if verdict is not None:
                raise verdict.error()
            self._watches.begin(caller, group, request, tenant, asked)
        except HoldfastError as error:
            caller.refuse(group, request, refusal_of(error))

    def on_admin(self, caller: Downstream, request: int, body: bytes) -> None:
        """Charged and not refused: whoever floods a tenant must not keep its administrator from revoking the key."""
        assert caller.principal is not None, "only who was welcomed asks"
        self._gate.charge(caller.principal.tenant, 1)
        self._control.on_call(caller, request, body)

    def on_gone(self, caller: Downstream) -> None:
        if caller.principal is not None:
            self._end(caller, caller.admitted, 0.0)
        self._watches.gone(caller)
        if caller.outstanding:
            self._groups.drop_caller(caller)
        self._routes.gone(caller)

    def deliver(self, group: int, outcome: Outcome) -> None:
        item = outcome.item
        caller = item.caller
        if not isinstance(caller, Downstream):
            assert isinstance(caller, Question)
            caller.settle(outcome)
            return
        if caller.connection.closed:
            return  # with it ended all that it had under way
        self._end(caller, item.operations, self._loop.time() - item.arrived)
        caller.answered()
        if outcome.answers is not None:
            self._routes.learn(group, item, caller, outcome.answers)
            caller.connection.send(_ANSWERS, group, item.request, outcome.answers)
        elif outcome.refusal is not None:
            caller.refuse(group, item.request, outcome.refusal)
