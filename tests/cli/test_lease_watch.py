"""A command is stopped before its lease can end, and only then."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.cli.foreground import Foreground
from holdfast.cli.lease_watch import LeaseWatch, margin_s
from holdfast.clock import boottime_ms
from holdfast.cluster import Guardian

from .processes import gone, wait_until

TTL_S = 0.8


@pytest.fixture
def guardian() -> Iterator[Guardian]:
    guardian = Guardian()
    yield guardian
    guardian.close()


class Lease:
    """Ends ``TTL_S`` after it began, or was last renewed."""

    def __init__(self) -> None:
        self.lost: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self.renew()

    def renew(self) -> None:
        self.until = boottime_ms() / 1000 + TTL_S

    def remaining(self) -> float:
        return 0.0 if self.lost.done() else max(0.0, self.until - boottime_ms() / 1000)


@pytest.mark.parametrize(("ttl_s", "margin"), [(10, 2), (60, 12), (4, 1), (1, 0.5), (0.1, 0.05)])
def test_the_margin(ttl_s: float, margin: float) -> None:
    assert margin_s(ttl_s) == pytest.approx(margin)


async def test_a_command_that_ends_in_time_is_left_alone(guardian: Guardian) -> None:
    lease = Lease()
    watch = LeaseWatch(TTL_S, lease.remaining, lease.lost, guardian)
    assert await watch.run(Foreground(["sh", "-c", "exit 5"], {}, guardian)) == (5, False)


async def test_nothing_begins_under_a_lease_that_is_over(guardian: Guardian, tmp_path: Path) -> None:
    lease = Lease()
    lease.lost.set_result(None)
    watch = LeaseWatch(TTL_S, lease.remaining, lease.lost, guardian)
    began = tmp_path / "began"
    _, stopped = await watch.run(Foreground(["touch", str(began)], {}, guardian))
    assert stopped
    assert not began.exists()


async def test_an_unrenewed_lease_ends_the_command_first(guardian: Guardian) -> None:
    lease = Lease()
    watch = LeaseWatch(TTL_S, lease.remaining, lease.lost, guardian)
    code, stopped = await watch.run(Foreground(["sleep", "60"], {}, guardian))
    assert (code, stopped) == (128 + signal.SIGTERM, True)
    assert boottime_ms() / 1000 < lease.until


async def test_a_command_that_ignores_term_is_dead_before_the_lease_ends(guardian: Guardian, tmp_path: Path) -> None:
    lease = Lease()
    watch = LeaseWatch(TTL_S, lease.remaining, lease.lost, guardian)
    pids = tmp_path / "pids"
    script = f"trap '' TERM; (while :; do sleep 0.02; done) & echo $! > {pids}; while :; do sleep 0.02; done"
    code, stopped = await watch.run(Foreground(["sh", "-c", script], {}, guardian))
    assert (code, stopped) == (128 + signal.SIGKILL, True)
    assert boottime_ms() / 1000 < lease.until
    wait_until(lambda: gone(int(pids.read_text())), "what the command started to end")


async def test_what_the_command_left_behind_ends_with_it(guardian: Guardian, tmp_path: Path) -> None:
    lease = Lease()
    watch = LeaseWatch(TTL_S, lease.remaining, lease.lost, guardian)
    pids = tmp_path / "pids"
    script = f"(trap '' TERM; while :; do sleep 0.02; done) & echo $! > {pids}; wait"
    code, stopped = await watch.run(Foreground(["sh", "-c", script], {}, guardian))
    assert (code, stopped) == (128 + signal.SIGTERM, True)
    wait_until(lambda: gone(int(pids.read_text())), "what the command started to end")


async def test_a_renewed_lease_lets_the_command_run(guardian: Guardian) -> None:
    lease = Lease()
    watch = LeaseWatch(TTL_S, lease.remaining, lease.lost, guardian)
    running = asyncio.ensure_future(watch.run(Foreground(["sleep", str(2 * TTL_S)], {}, guardian)))
    while not running.done():
        lease.renew()
        await asyncio.wait({running}, timeout=TTL_S / 4)
    assert running.result() == (0, False)


async def test_a_lock_taken_away_ends_the_command_at_once(guardian: Guardian) -> None:
    lease = Lease()
    watch = LeaseWatch(TTL_S, lease.remaining, lease.lost, guardian)
    asyncio.get_running_loop().call_later(0.05, lease.lost.set_result, "stolen")
    _, stopped = await watch.run(Foreground(["sleep", "60"], {}, guardian))
    assert stopped
    assert lease.until - boottime_ms() / 1000 > TTL_S / 2
