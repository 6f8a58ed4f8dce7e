"""Connections counted by address, and failed logins."""

from __future__ import annotations

import pytest

from holdfast.wire import crowd
from holdfast.wire.crowd import Crowd, FailedLogins, origin_of
from holdfast.wire.limits import FAILED_LOGINS_BURST, FAILED_LOGINS_EVERY_S


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("None", "None"),
    ],
)
def test_who_an_address_stands_for(address: str, origin: str) -> None:
    assert origin_of(address) == origin


def test_a_crowd_has_room_for_so_many_of_one_address_and_of_all() -> None:
    there = Crowd(3, 2)
    assert [there.enter("10.0.0.1") for _ in range(3)] == [True, True, False]
    assert [there.enter(address) for address in ("10.0.0.2", "10.0.0.3")] == [True, False]
    there.leave("10.0.0.1")
    assert there.enter("10.0.0.3")
    assert not there.enter("10.0.0.1")
    for address in ("10.0.0.1", "10.0.0.2", "10.0.0.3"):
        there.leave(address)
    assert there.__dict__["_of"] == {}


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_an_address_may_fail_so_often_and_then_has_to_wait_as_long_as_it_is_told() -> None:
    clock = Clock()
    failures = FailedLogins(clock)
    for _ in range(FAILED_LOGINS_BURST):
        assert failures.wait_s("10.0.0.1") == 0
        failures.failed("10.0.0.1")
    wait_s = failures.wait_s("10.0.0.1")
    assert wait_s == FAILED_LOGINS_EVERY_S
    assert failures.wait_s("10.0.0.2") == 0
    clock.now += wait_s - 0.001
    assert failures.wait_s("10.0.0.1") > 0
    clock.now += 0.001
    assert failures.wait_s("10.0.0.1") == 0
    failures.failed("10.0.0.1")
    assert failures.wait_s("10.0.0.1") == pytest.approx(FAILED_LOGINS_EVERY_S)
    clock.now += FAILED_LOGINS_BURST * FAILED_LOGINS_EVERY_S
    for _ in range(FAILED_LOGINS_BURST):
        assert failures.wait_s("10.0.0.1") == 0
        failures.failed("10.0.0.1")


def test_only_so_many_addresses_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd, "ADDRESSES_KNOWN_MAX", 2)
    failures = FailedLogins(Clock())
    for address in ("10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.3"):
        for _ in range(FAILED_LOGINS_BURST):
            failures.failed(address)
    assert [failures.wait_s(f"10.0.0.{last}") > 0 for last in (1, 2, 3)] == [True, False, True]
