"""Who comes back before the time that refusals name."""

from __future__ import annotations

from holdfast_router.haste import EARLY_MAX, Haste


def test_what_was_on_its_way_when_the_first_was_refused_is_no_haste() -> None:
    haste = Haste()
    assert not any(haste.refused(1, 1000, 0.0) for _ in range(1 + EARLY_MAX))
    assert haste.refused(1, 1000, 0.5)


def test_who_comes_when_it_was_told_to_is_never_in_haste() -> None:
    haste = Haste()
    for at in range(4 * EARLY_MAX):
        assert not haste.refused(1, 1000, float(at))


def test_waiting_once_is_enough() -> None:
    haste = Haste()
    assert [haste.refused(1, 1000, 0.0) for _ in range(2 + EARLY_MAX)][-1]
    assert not haste.refused(1, 1000, 1.0)


def test_each_group_has_its_own_time() -> None:
    haste = Haste()
    assert [haste.refused(1, 1000, 0.0) for _ in range(2 + EARLY_MAX)][-1]
    assert not haste.refused(2, 1000, 0.0)
