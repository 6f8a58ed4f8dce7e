"""How many connections there are, in all and from each address; and who failed to say who he is, and how often."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable

from holdfast.wire.limits import (
    ADDRESSES_KNOWN_MAX,
    FAILED_LOGINS_BURST,
    FAILED_LOGINS_EVERY_S,
)


def origin_of(address: str) -> str:
    """Whom to hold to account for an address: itself, or the network of 64 bits that an IPv6 address is of, for whoever
    has one of those has them all."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((found, 64), strict=False))


class Crowd:
    """Counts who is in. ``total_max``, ``each_max``: of all addresses, and of one."""

    def __init__(self, total_max: int, each_max: int) -> None:
        self._total_max = total_max
        self._each_max = each_max
        self._total = 0
        self._of: dict[str, int] = {}

    def enter(self, address: str) -> bool:
        """Whether there is room; if so it is taken until :meth:`leave`."""
        origin = origin_of(address)
        mine = self._of.get(origin, 0)
        if self._total >= self._total_max or mine >= self._each_max:
            return False
        self._total += 1
        self._of[origin] = mine + 1
        return True

    def leave(self, address: str) -> None:
        origin = origin_of(address)
        self._total -= 1
        self._of[origin] -= 1
        if not self._of[origin]:
            del self._of[origin]


class FailedLogins:
    """Of each address ``FAILED_LOGINS_BURST`` in a row, and then one in ``FAILED_LOGINS_EVERY_S``. Bounded: the address
    that failed longest ago is forgotten first.

    Invariant: an address stands here with the time, of ``clock`` in seconds, at which all its failures are forgiven.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._forgiven: OrderedDict[str, float] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """How long until this address may fail again; 0 when it may now."""
        forgiven = self._forgiven.get(origin_of(address), 0.0)
        return max(forgiven - self._clock() - (FAILED_LOGINS_BURST - 1) * FAILED_LOGINS_EVERY_S, 0.0)

    def failed(self, address: str) -> None:
        origin, now = origin_of(address), self._clock()
        self._forgiven[origin] = max(self._forgiven.get(origin, now), now) + FAILED_LOGINS_EVERY_S
        self._forgiven.move_to_end(origin)
        while len(self._forgiven) > ADDRESSES_KNOWN_MAX:
            self._forgiven.popitem(last=False)
