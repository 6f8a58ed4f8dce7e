"""What a load test calls a broken promise."""

from __future__ import annotations

from loadtests.locust.witness import Witness


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_one_holder_after_the_other_with_rising_tokens_is_right() -> None:
    witness = Witness(Clock())
    for token in (3, 5, 9):
        assert not witness.granted("a", token, 130.0)
        witness.let_go("a", token)


def test_a_second_holder_is_told() -> None:
    witness = Witness(Clock())
    assert not witness.granted("a", 3, 130.0)
    assert not witness.granted("b", 3, 130.0)
    assert witness.granted("a", 4, 130.0).startswith("granted twice: 'a' under token 4 beside 3")


def test_the_same_grant_to_two_is_told_even_of_a_semaphore() -> None:
    witness = Witness(Clock())
    assert not witness.granted("a", 3, 130.0, 1, 5)
    assert witness.granted("a", 3, 130.0, 1, 5).startswith("granted twice")


def test_whose_lease_has_run_out_stands_in_nobodys_way() -> None:
    clock = Clock()
    witness = Witness(clock)
    assert not witness.granted("a", 3, 130.0)
    clock.now_s = 130.0
    assert not witness.granted("a", 4, 160.0)


def test_a_token_that_falls_or_stays_is_told() -> None:
    witness = Witness(Clock())
    assert not witness.granted("a", 3, 130.0)
    witness.let_go("a", 3)
    assert witness.granted("a", 3, 130.0) == "the token fell: 'a' has 3 after 3"
    witness.let_go("a", 3)
    assert witness.granted("a", 2, 130.0) == "the token fell: 'a' has 2 after 3"


def test_permits_are_added_up_and_their_tokens_may_come_in_any_order() -> None:
    witness = Witness(Clock())
    assert not witness.granted("s", 8, 130.0, 3, 8)
    assert not witness.granted("s", 7, 130.0, 5, 8)
    assert witness.granted("s", 9, 130.0, 1, 8).startswith("granted twice: 's' under token 9 beside 7, 8 (8 of 8")
    witness.let_go("s", 9)
    witness.let_go("s", 8)
    assert not witness.granted("s", 10, 130.0, 3, 8)
