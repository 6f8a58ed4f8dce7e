"""Permits of a counting semaphore."""

from __future__ import annotations

from holdfast.lock import Lock


class Semaphore(Lock):
    """``permits`` of the ``capacity`` permits that go by one name; held, renewed and lost like a lock.

    The capacity is that of whoever holds or awaits permits already; asking with another raises
    :class:`CapacityMismatch`.
    """

    __slots__ = ()

    @property
    def permits(self) -> int:
        options = self._hold.options
        assert options is not None
        return options.permits

    @property
    def capacity(self) -> int:
        options = self._hold.options
        assert options is not None
        return options.capacity
