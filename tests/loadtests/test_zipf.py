"""Popular names are as popular as they say."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from loadtests.locust.zipf import Zipf


def test_the_kth_name_comes_as_often_as_one_kth_of_the_first() -> None:
    rng, zipf = random.Random(7), Zipf(100, 1.0)
    drawn = Counter(zipf.draw(rng) for _ in range(100_000))
    assert set(drawn) <= set(range(100))
    for rank in (1, 3, 9):
        assert drawn[0] / drawn[rank] == pytest.approx(rank + 1, rel=0.1)


def test_one_name_is_always_drawn() -> None:
    assert Zipf(1, 1.1).draw(random.Random(1)) == 0


@pytest.mark.parametrize(("count", "exponent"), [(0, 1.0), (10, 0.0)])
def test_what_is_no_distribution_is_refused(count: int, exponent: float) -> None:
    with pytest.raises(ValueError, match="count is at least 1"):
        Zipf(count, exponent)
