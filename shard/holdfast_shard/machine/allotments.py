"""How a tenant's totals are split over the groups: allotments, moved by demand, whose sum never exceeds the total.

A group that is told of a lower share may hold more until it says how much it holds; until it has said so under the
lower share, what it was promised before counts against the total. So the sum of what groups may hold stays within the
total, whatever is lost, repeated or reordered on the way (``docs/design.md``, 6.10). Part of the meta machine: pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from holdfast.wire.frames import GONE, Allotment, decoder
from holdfast.wire.tenants import Quotas

GENESIS_VERSION = 1
RESOURCES = 3
"""Held locks, waiters, sessions: what is shared out, in the order of the columns here."""

Amounts = tuple[int, int, int]
NOTHING: Amounts = (0, 0, 0)


class Use(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What a group says of a tenant: under which version of its allotment it uses how much, and how much more was
    asked of it within the last second and refused."""

    tenant: int
    version: int
    used: Amounts
    wanted: Amounts


class Report(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    group: int
    uses: list[Use]


class ShareRow(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """One share in a snapshot of the meta machine; with version ``GONE``, that the group is still to be told so."""

    tenant: int
    group: int
    version: int
    reported: int
    target: Amounts
    promised: Amounts
    used: Amounts
    wanted: Amounts


decode_report = decoder(Report)
decode_share_rows = decoder(list[ShareRow])


class Share:
    """What one group may use of one tenant's totals."""

    __slots__ = ("promised", "reported", "target", "used", "version", "wanted")

    def __init__(self, target: Sequence[int]) -> None:
        self.version = GENESIS_VERSION
        self.reported = 0
        """The last version that the group has said to have."""
        self.target = list(target)
        """What the version says."""
        self.promised = list(target)
        """Invariant: the group uses no more than this, nor ever will before it is promised more."""
        self.used = [0] * RESOURCES
        self.wanted = [0] * RESOURCES


class Allotments:
    def __init__(self, groups: Iterable[int], tenants: Mapping[int, Quotas], next_number: int = 1) -> None:
        """``tenants`` stand with their even shares in the genesis of every group. Numbers below ``next_number`` were
        given before."""
        self.groups = tuple(sorted(groups))
        self._next_number = next_number
        self._quotas: dict[int, Quotas] = {}
        self._shares: dict[int, dict[int, Share]] = {}
        self._unreported: dict[int, dict[int, None]] = {group: {} for group in self.groups}
        """Group -> tenants whose newest version it has not said to have, oldest first."""
        self._leaving: dict[int, dict[int, None]] = {group: {} for group in self.groups}
        """Group -> tenants that are gone, while it has not said to know that. Nothing else is kept of those."""
        for number, quotas in tenants.items():
            self.set_quotas(number, quotas)
            for group, share in self._shares[number].items():
                share.reported = share.version
                del self._unreported[group][number]

    # What is asked of it.

    def set_quotas(self, tenant: int, quotas: Quotas) -> None:
        """A new tenant, or other quotas of one. A lowered total takes nothing away."""
        known, self._quotas[tenant] = self._quotas.get(tenant), quotas
        if known is None:
            self._next_number = max(self._next_number, tenant + 1)
            rows = zip(*(even_split(total, len(self.groups)) for total in _totals(quotas)), strict=True)
            self._shares[tenant] = {group: Share(row) for group, row in zip(self.groups, rows, strict=True)}
            for group in self.groups:
                self._unreported[group][tenant] = None
        elif known != quotas:
            self._rebalance(tenant, told=_told(known) != _told(quotas), anew=_totals(known) != _totals(quotas))

    def remove(self, tenant: int) -> None:
        """It is gone, and its number is never used again. Its groups are told, and forget it when nothing is left."""
        if self._quotas.pop(tenant, None) is not None:
            del self._shares[tenant]
            for group in self.groups:
                self._unreported[group].pop(tenant, None)
                self._leaving[group][tenant] = None

    def report(self, report: Report) -> None:
        """A group has said what it uses. Any report may come late, twice or never."""
        for use in report.uses:
            share = self._shares.get(use.tenant, {}).get(report.group)
            if share is None:
                self._note_gone(report.group, use)
            elif use.version <= share.version:
                self._note(share, report.group, use)
                self._rebalance(use.tenant)

    def _note_gone(self, group: int, use: Use) -> None:
        """A group that speaks of a tenant that is gone, as if it were not, is told: a late word may have made a row."""
        if not self._is_gone(group, use.tenant):
            return
        if use.version == GONE:
            self._leaving[group].pop(use.tenant, None)
        else:
            self._leaving[group][use.tenant] = None

    def _is_gone(self, group: int, tenant: int) -> bool:
        return group in self._leaving and tenant not in self._quotas and 0 < tenant < self._next_number

    def _note(self, share: Share, group: int, use: Use) -> None:
        share.used, share.wanted = list(use.used), list(use.wanted)
        if use.version < share.version:
            return
        share.reported = share.version
        self._unreported[group].pop(use.tenant, None)
        # From the reading of this report on the group had no more than it shows or its target, whichever is more. An
        # older report of the same version cannot raise what a newer one has lowered.
        share.promised = [
            min(promised, max(target, used))
            for promised, target, used in zip(share.promised, share.target, share.used, strict=True)
        ]

    def unreported(self, group: int) -> Iterator[Allotment]:
        """What the group has to be told, until it says that it was."""
        for tenant in self._unreported.get(group, ()):
            yield self.allotment(tenant, group)
        for tenant in self._leaving.get(group, ()):
            yield Allotment(tenant, GONE, *NOTHING, waiters_per_lock=0, ttl_ms=0, metadata_bytes=0)

    def allotment(self, tenant: int, group: int) -> Allotment:
        share, quotas = self._shares[tenant][group], self._quotas[tenant]
        held, waiters, sessions = share.target
        return Allotment(
            tenant, share.version, held, waiters, sessions, quotas.waiters_per_lock, quotas.ttl_ms,
            quotas.metadata_bytes,
        )  # fmt: skip

    def is_news(self, group: int, use: Use) -> bool:
        """Whether a report of it would change anything here."""
        share = self._shares.get(use.tenant, {}).get(group)
        if share is None:
            return self._is_gone(group, use.tenant) and (use.version == GONE) == (use.tenant in self._leaving[group])
        if use.version > share.version:
            return False
        same = tuple(share.used) == use.used and tuple(share.wanted) == use.wanted
        return not same or share.reported < use.version == share.version

    # Moving.

    def _rebalance(self, tenant: int, *, told: bool = False, anew: bool = False) -> None:
        """Move shares to where they are wanted. ``told``: other limits have to be told; ``anew``: the total is new."""
        shares, totals = self._shares[tenant], _totals(self._quotas[tenant])
        before = {group: list(share.target) for group, share in shares.items()}
        for resource, total in enumerate(totals):
            _move(list(shares.values()), resource, total, anew)
        for group, share in shares.items():
            if told or share.target != before[group]:
                share.version += 1
                self._unreported[group][tenant] = None

    # Snapshots.

    def export(self) -> list[ShareRow]:
        leaving = sorted((tenant, group) for group, tenants in self._leaving.items() for tenant in tenants)
        rows = [
            ShareRow(
                tenant, group, share.version, share.reported, _amounts(share.target), _amounts(share.promised),
                _amounts(share.used), _amounts(share.wanted),
            )
            for tenant, shares in sorted(self._shares.items())
            for group, share in sorted(shares.items())
        ]  # fmt: skip
        nothing = (NOTHING, NOTHING, NOTHING, NOTHING)
        return rows + [ShareRow(tenant, group, GONE, 0, *nothing) for tenant, group in leaving]

    @classmethod
    def restored(
        cls, groups: Iterable[int], tenants: Mapping[int, Quotas], next_number: int, rows: Iterable[ShareRow]
    ) -> Allotments:
        """Of a snapshot. Raises ``ValueError`` when the rows are not those of these tenants and groups."""
        made = cls(groups, tenants, next_number)
        wanted = {(tenant, group) for tenant in made._shares for group in made.groups}
        for row in rows:
            if row.version == GONE and made._is_gone(row.group, row.tenant):
                made._leaving[row.group][row.tenant] = None
                continue
            if (row.tenant, row.group) not in wanted:
                raise ValueError(f"a share of tenant {row.tenant} in group {row.group} is none, or stands there twice")
            wanted.remove((row.tenant, row.group))
            share = made._shares[row.tenant][row.group]
            share.version, share.reported = row.version, row.reported
            share.target, share.promised = list(row.target), list(row.promised)
            share.used, share.wanted = list(row.used), list(row.wanted)
            if share.reported < share.version:
                made._unreported[row.group][row.tenant] = None
        if wanted:
            raise ValueError(f"this snapshot lacks the shares {sorted(wanted)[:3]}")
        return made


def _move(shares: list[Share], resource: int, total: int, anew: bool) -> None:
    """New targets of one resource. What is raised beyond its promise comes out of what nobody was promised."""
    free = total - sum(share.promised[resource] for share in shares)
    if free < 0:
        # The total was lowered. Whoever holds too much keeps it, so nobody gets more before all is known to fit again.
        for share in shares:
            share.target[resource] = 0
        return
    short = [_is_short(share, resource) for share in shares]
    if not (anew or any(short)):
        return
    ideal = _ideal(shares, resource, total, short)
    raised = [
        anew or (needs and _is_worth_it(share, resource, wish))
        for share, wish, needs in zip(shares, ideal, short, strict=True)
    ]
    lacking = sum(
        max(wish - share.promised[resource], 0)
        for share, wish, needs in zip(shares, ideal, raised, strict=True)
        if needs
    )
    for share, wish, needs in zip(shares, ideal, raised, strict=True):
        target, promised = share.target[resource], share.promised[resource]
        if share.reported < share.version and not anew:
            # One change at a time: with the next on top, no report would ever be of the newest version.
            continue
        if wish < target and lacking > free:
            share.target[resource] = wish
        elif wish > target and needs:
            more = max(min(wish - promised, free), 0)
            free -= more
            share.promised[resource] = promised + more
            share.target[resource] = max(target, min(wish, promised + more))


def _is_short(share: Share, resource: int) -> bool:
    """Refused lately, or nearly used up."""
    return share.wanted[resource] > 0 or is_nearly_used(share.used[resource], share.target[resource])


def is_nearly_used(used: int, target: int) -> bool:
    """More than three quarters."""
    return 4 * used > 3 * target


def _is_worth_it(share: Share, resource: int, wish: int) -> bool:
    """Where nobody was refused, small differences are left alone: every move costs an entry in three logs."""
    target = share.target[resource]
    return wish > target and (share.wanted[resource] > 0 or wish - target > target // 8)


def _ideal(shares: list[Share], resource: int, total: int, short: list[bool]) -> list[int]:
    """A split of the total by need. Of what is over, half goes to those that are short, for they may go on growing."""
    used = [share.used[resource] for share in shares]
    need = [share.used[resource] + share.wanted[resource] for share in shares]
    spare = total - sum(need)
    if spare < 0:
        given = max_min_fair(total, used)
        rest = max_min_fair(total - sum(given), [share.wanted[resource] for share in shares])
        return [one + other for one, other in zip(given, rest, strict=True)]
    growing = [at for at in range(len(shares)) if short[at]] or list(range(len(shares)))
    evenly = spare // 2
    split = [own + more for own, more in zip(need, even_split(evenly, len(shares)), strict=True)]
    for at, more in zip(growing, even_split(spare - evenly, len(growing)), strict=True):
        split[at] += more
    return split


def even_split(total: int, parts: int) -> list[int]:
    """Shares of as equal size as can be; what remains goes to the first."""
    share, rest = divmod(total, parts) if parts else (0, 0)
    return [share + (at < rest) for at in range(parts)]


def max_min_fair(total: int, asked: Sequence[int]) -> list[int]:
    """Nobody gets more than it asks, and nobody less than another unless it asks for less (max-min fairness)."""
    given = [0] * len(asked)
    order = sorted(range(len(asked)), key=lambda at: (asked[at], at))
    for done, at in enumerate(order):
        given[at] = min(asked[at], total // (len(order) - done))
        total -= given[at]
    return given


def first_allotments(tenant: int, quotas: Quotas, groups: Iterable[int]) -> dict[int, Allotment]:
    """What each group is given when nobody knows yet where it will be wanted: as it stands in its genesis."""
    split = Allotments(groups, {tenant: quotas})
    return {group: split.allotment(tenant, group) for group in split.groups}


def _totals(quotas: Quotas) -> Amounts:
    return (quotas.held, quotas.waiters, quotas.sessions)


def _told(quotas: Quotas) -> Amounts:
    """What every group is told alike."""
    return (quotas.waiters_per_lock, quotas.ttl_ms, quotas.metadata_bytes)


def _amounts(values: Sequence[int]) -> Amounts:
    held, waiters, sessions = values
    return (held, waiters, sessions)
