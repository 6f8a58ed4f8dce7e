"""Telling the allotters what the groups led here use of their tenants' shares, and where a share was too small."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from ..machine import LockMachine, Machine
from ..machine.allotments import NOTHING, Amounts, Report, Use, is_nearly_used
from .service import Replica

SCAN_S = 0.2
"""How often all tenants of a group are looked at; ..."""
SCAN_SHARE = 0.02
"""... less often when that would take more than this share of a core."""
PROMPT_S = 0.02
"""Shortest time between two reports of a group. Whoever found a share used up is reported this soon."""
WANTED_S = 1.0
"""How long a refusal counts as a wish for more."""
SMALL = 16
"""A change of less than this part of a share tells nothing: each that is told is an entry in the meta group's log."""
USES_PER_REPORT_MAX = 1000


class UseReporter:
    """Reports are differences to what was reported before over the same connections, so that nothing may be lost on
    them; a new connection hears everything."""

    def __init__(
        self,
        machines: Mapping[int, Machine],
        replicas: Mapping[int, Replica],
        *,
        send: Callable[[Report], bool],
        now: Callable[[], float],
    ) -> None:
        """``send`` returns whether anybody was there to hear it."""
        self._groups = {
            group: _Group(group, machine, replicas[group])
            for group, machine in machines.items()
            if isinstance(machine, LockMachine)
        }
        self._send = send
        self._now = now
        self._timer: asyncio.TimerHandle | None = None
        self._listened = False

    def begin(self) -> None:
        """Somebody new listens."""
        for group in self._groups.values():
            group.forget()
        self._listened = True
        self._arm(0.0)

    def look(self) -> None:
        """After every turn of the engine: what cannot wait for the next scan."""
        if not self._listened:
            return
        now = self._now()
        for group in self._groups.values():
            if group.machine.has_noteworthy and now >= group.prompt_at and group.leads():
                self._report(group, group.machine.take_noteworthy(), now)

    def _scan(self) -> None:
        began = self._now()
        for group in self._groups.values():
            if group.leads():
                group.machine.take_noteworthy()
                numbers = group.machine.tenant_numbers()
                self._report(group, numbers, began)
                group.keep(numbers)
        if self._listened:
            self._arm(max(SCAN_S, (self._now() - began) / SCAN_SHARE))

    def _report(self, group: _Group, tenants: set[int] | list[int], now: float) -> None:
        group.prompt_at = now + PROMPT_S
        uses = [use for use in (group.news(number, now) for number in tenants) if use is not None]
        for at in range(0, len(uses), USES_PER_REPORT_MAX):
            if not self._send(Report(group.number, uses[at : at + USES_PER_REPORT_MAX])):
                self._listened = False
                return

    def _arm(self, delay_s: float) -> None:
        self.close()
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._scan)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class _Group:
    def __init__(self, number: int, machine: LockMachine, replica: Replica) -> None:
        self.number = number
        self.machine = machine
        self.prompt_at = 0.0
        self._replica = replica
        self._term = 0
        """Of the office in which was told what was told."""
        self._told: dict[int, Use] = {}
        self._wishes: dict[int, tuple[float, Amounts]] = {}
        """Tenant -> until when, and how much more it wants."""

    def forget(self) -> None:
        self._told.clear()

    def keep(self, tenants: list[int]) -> None:
        """These are all that there are: nothing is remembered of others, which are gone."""
        if len(self._told) > len(tenants):
            self._told = {number: self._told[number] for number in tenants if number in self._told}
            self._wishes = {number: self._wishes[number] for number in tenants if number in self._wishes}

    def leads(self) -> bool:
        """Only of a leader that has applied all that was committed before it: others know too little."""
        if not self._replica.ready:
            return False
        if self._replica.term != self._term:
            # What was refused before was refused by another leader, who told of it.
            self._term = self._replica.term
            self._told.clear()
            self._wishes.clear()
            for number in self.machine.take_noteworthy():
                self.machine.take_use(number)
        return True

    def news(self, tenant: int, now: float) -> Use | None:
        use = self.machine.take_use(tenant)
        if use.wanted != NOTHING:
            self._wishes[tenant] = (now + WANTED_S, use.wanted)
        until, wanted = self._wishes.get(tenant, (now, NOTHING))
        if wanted != NOTHING and until <= now:
            del self._wishes[tenant]
            wanted = NOTHING
        use = Use(tenant, use.version, use.used, wanted)
        told = self._told.get(tenant)
        if told is not None and _says_the_same(told, use, self.machine.share_of(tenant)):
            return None
        self._told[tenant] = use
        return use


def _says_the_same(told: Use, use: Use, share: Amounts) -> bool:
    """Whether the meta group would move nothing for it. What is used beyond a lowered share is told to the last: it is
    promised to the group for as long as it is."""
    if (told.version, told.wanted) != (use.version, use.wanted):
        return False
    return all(
        before == now
        or (
            max(before, now) <= limit
            and SMALL * abs(now - before) < limit
            and is_nearly_used(before, limit) == is_nearly_used(now, limit)
        )
        for before, now, limit in zip(told.used, use.used, share, strict=True)
    )
