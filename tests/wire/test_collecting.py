"""What a server has come to hold is not walked by the collector again."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import asyncio
import gc
from holdfast.wire.collecting import GROWTH_BLOCKS, THRESHOLDS, settle_collector


def held(count):
    return [[number] for number in range(count)]


class Cycle:
    alive = 0

    def __init__(self):
        self.me = self
        Cycle.alive += 1

    def __del__(self):
        Cycle.alive -= 1


async def collected():
    gc.collect(1)
    await asyncio.sleep(0.01)


async def main():
    settle_collector()
    assert gc.get_threshold() == THRESHOLDS
    before = gc.get_freeze_count()
    few = held(GROWTH_BLOCKS // 10)
    await collected()
    assert gc.get_freeze_count() <= before, "nothing has grown much"
    cycles = [Cycle() for _ in range(10)]
    gc.collect(1)
    cycles.clear()
    assert Cycle.alive == 10, "old garbage"
    rows = held(2 * GROWTH_BLOCKS)
    await collected()
    assert gc.get_freeze_count() > before + GROWTH_BLOCKS, "what has come is kept from the collector"
    assert Cycle.alive == 0, "but no garbage, however old"
    kept = gc.get_freeze_count()
    rows.clear()
    assert gc.get_freeze_count() < kept - GROWTH_BLOCKS, "and is freed as before"
    await collected()
    rows = held(2 * GROWTH_BLOCKS)
    await collected()
    assert gc.get_freeze_count() > kept - GROWTH_BLOCKS // 2, "again after it has shrunk"
    for _ in range(10):
        Cycle()
    gc.collect()
    assert Cycle.alive == 0, "young garbage is still collected"


asyncio.run(main())
"""


def test_what_has_come_to_stay_is_frozen_and_freed_as_before() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
