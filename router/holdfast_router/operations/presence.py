"""Calls under way at a front, by tenant: those of one keep none of another's out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from holdfast.wire.errors import Overloaded
from holdfast.wire.limits import BUSY_RETRY_MS


class Presence:
    """``each_max``: of one tenant. Waiting and watching calls count for as long as they last."""

    def __init__(self, each_max: int) -> None:
        self._each_max = each_max
        self._of: Counter[int] = Counter()

    @contextmanager
    def of(self, tenant: int) -> Iterator[None]:
        """While a call lasts. Raises :class:`Overloaded`."""
        if self._of[tenant] >= self._each_max:
            raise Overloaded(f"a tenant has at most {self._each_max} calls under way at a router", BUSY_RETRY_MS)
        self._of[tenant] += 1
        try:
            yield
        finally:
            self._of[tenant] -= 1
            if not self._of[tenant]:
                del self._of[tenant]
