"""Events put together: calls with their real-time bounds and outcomes, and who believed to hold what, and when."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf

from .events import Added, Believed, Called, Event, Mode, Op, Outcome, Returned, Shown


@dataclass(slots=True)
class Call:
    """``ended`` is infinite, and the outcome unknown, when no answer was written down."""

    id: str
    op: Op
    name: str
    began: float
    ended: float = inf
    outcome: Outcome = Outcome.UNKNOWN
    error: str = ""
    mode: Mode = Mode.EXCLUSIVE
    permits: int = 1
    capacity: int = 0
    hold: str = ""
    token: int = 0
    tries: bool = False
    takes: bool = False
    now: bool = False
    holds: bool = False
    shown: tuple[Shown, ...] = ()
    looks: list[tuple[float, float]] = field(default_factory=list)
    """Of an acquire: when its holder looked, and until when it might believe then; 0 for no longer."""

    @property
    def granted(self) -> bool:
        return self.op == Op.ACQUIRE and self.outcome == Outcome.OK

    def __str__(self) -> str:
        token = f", token {self.token}" if self.token else ""
        return f"{self.op} {self.id} of {self.name!r} [{self.began:.6f}, {self.ended:.6f}] {self.outcome}{token}"


@dataclass(slots=True)
class History:
    calls: dict[str, Call] = field(default_factory=dict)
    added: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Of each set, the elements whose adding was acknowledged."""

    def __call__(self, event: Event) -> None:
        """Take in one more event; those of one process come in the order in which it wrote them."""
        match event:
            case Called():
                self.calls[event.id] = Call(
                    event.id, event.op, event.name, event.at, mode=event.mode, permits=event.permits,
                    capacity=event.capacity, hold=event.hold, token=event.token, tries=event.tries, takes=event.takes,
                    now=event.now,
                )  # fmt: skip
            case Returned():
                call = self.calls[event.id]
                call.ended, call.outcome, call.error = event.at, event.outcome, event.error
                call.token, call.holds, call.shown = event.token or call.token, event.holds, event.shown
            case Believed():
                self.calls[event.id].looks.append((event.at, event.until_s))
            case Added():
                self.added[event.set].append(event.element)

    @classmethod
    def of(cls, events: Iterable[Event]) -> History:
        history = cls()
        for event in events:
            history(event)
        return history

    def by_name(self) -> dict[str, list[Call]]:
        """Calls of each name in the order in which they began."""
        found: dict[str, list[Call]] = defaultdict(list)
        for call in sorted(self.calls.values(), key=lambda call: call.began):
            found[call.name].append(call)
        return found

    def counts(self) -> dict[str, Counter[str]]:
        """Operation -> outcome -> how often."""
        found: dict[str, Counter[str]] = defaultdict(Counter)
        for call in self.calls.values():
            found[call.op][call.outcome] += 1
        return found

    def errors(self) -> Counter[str]:
        return Counter(f"{call.op}: {call.error}" for call in self.calls.values() if call.error)

    def grants(self) -> int:
        return sum(call.granted for call in self.calls.values())

    def gaps(self, since: float, until: float, instants: Iterable[float]) -> list[float]:
        """Longest time without any grant that began within half a second after each of ``instants`` or spans it."""
        grants = {call.ended for call in self.calls.values() if call.granted and since <= call.ended <= until}
        times = sorted({since, until} | grants)
        return [
            max((b - a for a, b in pairwise(times) if a <= instant + 0.5 and b >= instant), default=0.0)
            for instant in instants
        ]


def believed_until(grant: Call, release: Call | None, *, taken: bool) -> float:
    """The end of the time for which the holder of ``grant`` certainly believed; it began when the acquire returned.

    ``release``: its first release, called right after a look. ``taken``: somebody asked to take the name away, so that
    belief may have ended before the deadline without a line written. Then the last look counts. Else a holder that was
    killed or stopped would have believed until its deadline, and nobody could know better.
    """
    seen, until = grant.ended, grant.ended
    over = release is not None or taken
    for at, deadline in grant.looks:
        if deadline > at:
            seen, until = max(seen, at), max(until, deadline)
        else:
            over = True
    return seen if over else until
