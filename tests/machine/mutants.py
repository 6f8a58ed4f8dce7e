"""Seeded bugs of the lock machine: what a plausible slip would make of it, by name, as patches of its classes.

A patch is applied before a machine is made. Each of them breaks one sentence of the contract (``docs/design.md``).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.machine import mutants_of_locks, mutants_of_time

MUTANTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {**mutants_of_time.MUTANTS, **mutants_of_locks.MUTANTS}
