"""Seeded bugs by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Mutant = Callable[[pytest.MonkeyPatch], None]


class Mutants(dict[str, Mutant]):
    """Each is named by the function that patches it in."""

    def add(self, patch: Mutant) -> Mutant:
        self[patch.__name__] = patch
        return patch
