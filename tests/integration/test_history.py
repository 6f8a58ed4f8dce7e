"""The checker itself: every kind of broken promise is seen, and a clean history is clean."""

from __future__ import annotations

from tests.integration.history import History, Hold


def test_a_clean_history_has_no_violation() -> None:
    history = History([Hold(1, "a", 1, 0.0, 1.0, 2.0, [(1.5, True)]), Hold(2, "a", 2, 0.5, 2.0, 3.0)])
    assert history.violations() == []


def test_two_believers_are_seen_also_behind_a_short_hold() -> None:
    history = History([Hold(1, "a", 1, 0.0, 1.0, 9.0), Hold(2, "a", 2, 1.0, 9.0, 9.5), Hold(3, "a", 3, 1.0, 8.0, 8.5)])
    assert any("two holders" in text for text in history.violations())


def test_a_falling_and_a_repeated_token_are_seen() -> None:
    fell = History([Hold(1, "a", 5, 0.0, 1.0, 2.0), Hold(2, "a", 4, 2.0, 3.0, 4.0)])
    assert any("fell" in text for text in fell.violations())
    twice = History([Hold(1, "a", 5, 0.0, 1.0, 2.0), Hold(2, "a", 5, 0.5, 3.0, 4.0)])
    assert any("twice" in text for text in twice.violations())


def test_a_lost_grant_is_seen_only_while_it_was_believed() -> None:
    lost = History([Hold(1, "a", 1, 0.0, 1.0, 5.0, [(2.0, False)])])
    assert any("lost" in text for text in lost.violations())
    over = History([Hold(1, "a", 1, 0.0, 1.0, 2.0, [(3.0, False)])])
    assert over.violations() == []


def test_the_gap_at_an_instant_is_the_longest_silence_after_it() -> None:
    history = History([Hold(1, "a", n, 0.0, t, t) for n, t in enumerate([0.9, 1.0, 1.7, 1.8, 2.0])])
    assert abs(history.gaps(0.0, 5.0, [1.1])[0] - 0.7) < 1e-9
