"""Names of which few are popular: the k-th as often as 1 / k^exponent says."""

from __future__ import annotations

import random
from bisect import bisect_left
from itertools import accumulate


class Zipf:
    """Ranks 0 to ``count`` - 1."""

    def __init__(self, count: int, exponent: float) -> None:
        if count < 1 or exponent <= 0:
            raise ValueError(f"count is at least 1 and exponent above 0, not {count} and {exponent:g}")
        self._below = list(accumulate((rank + 1) ** -exponent for rank in range(count)))

    def draw(self, rng: random.Random) -> int:
        return bisect_left(self._below, rng.random() * self._below[-1])
