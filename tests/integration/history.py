"""A record of who believed to hold what, and when; and the checks that no run may fail.

Times are seconds of CLOCK_BOOTTIME, which all processes of one machine share, so that histories of several clients can
be laid over each other without any clock of the service.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(slots=True)
class Hold:
    """One grant as its client saw it. Belief runs from ``granted`` (the call returned) to ``ended``.

    ``ended`` is when the client stopped believing: it called release, saw the loss, or its belief ran out.
    """

    client: int
    name: str
    token: int
    asked: float
    granted: float
    ended: float = float("inf")
    checked: list[tuple[float, bool]] = field(default_factory=list)
    """Answers of the service to "is my token still the holder's?", by the time each arrived."""


@dataclass(slots=True)
class History:
    holds: list[Hold] = field(default_factory=list)

    def granted(self, client: int, name: str, token: int, asked: float) -> Hold:
        hold = Hold(client, name, token, asked, now())
        self.holds.append(hold)
        return hold

    def violations(self) -> list[str]:
        """Every broken promise, in words; empty when there is none."""
        return [*self._one_holder(), *self._tokens_rise(), *self._grants_kept()]

    def _by_name(self) -> Iterable[list[Hold]]:
        names: dict[str, list[Hold]] = defaultdict(list)
        for hold in self.holds:
            names[hold.name].append(hold)
        return names.values()

    def _one_holder(self) -> Iterable[str]:
        for holds in self._by_name():
            holds.sort(key=lambda hold: hold.granted)
            latest: Hold | None = None
            for hold in holds:
                if latest is not None and hold.granted < latest.ended:
                    yield (
                        f"two holders of {hold.name!r}: client {latest.client} (token {latest.token}) until "
                        f"{latest.ended:.6f}, client {hold.client} (token {hold.token}) from {hold.granted:.6f}"
                    )
                if latest is None or hold.ended > latest.ended:
                    latest = hold

    def _tokens_rise(self) -> Iterable[str]:
        for holds in self._by_name():
            # Only grants that do not overlap in real time are ordered: one asked for after the other was had.
            holds.sort(key=lambda hold: hold.granted)
            for index, hold in enumerate(holds):
                for later in holds[index + 1 : index + 8]:
                    if later.asked >= hold.granted and later.token <= hold.token:
                        yield f"token of {hold.name!r} fell from {hold.token} to {later.token}"
                    if later.token == hold.token:
                        yield f"token {hold.token} of {hold.name!r} was granted twice"

    def _grants_kept(self) -> Iterable[str]:
        for hold in self.holds:
            for at, still in hold.checked:
                if not still and at < hold.ended:
                    yield f"a believed grant of {hold.name!r} (token {hold.token}) was lost: an acknowledged one"

    def gaps(self, since: float, until: float, instants: Iterable[float]) -> list[float]:
        """Longest time without any grant that began within half a second after each of ``instants`` or spans it."""
        grants = sorted({since, until, *(hold.granted for hold in self.holds if since <= hold.granted <= until)})
        return [
            max((b - a for a, b in pairwise(grants) if a <= instant + 0.5 and b >= instant), default=0.0)
            for instant in instants
        ]
