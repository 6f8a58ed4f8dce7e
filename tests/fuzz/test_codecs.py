"""No bytes crash what reads them, and what it reads it writes again the same."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.seeds import seeds, vectors
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
SEEDS = seeds()
EXAMPLES = [example for examples in SEEDS.values() for example in examples]
HOSTILE = {
    "array": b"\xdd\xff\xff\xff\xff",
    "map": b"\xdf\xff\xff\xff\xff",
    "text": b"\xdb\xff\xff\xff\xff",
    "bytes": b"\xc6\xff\xff\xff\xff",
    "extension": b"\xc9\xff\xff\xff\xff\x01",
    "nested": b"\x91" * 2000,
    "keyed by itself": b"\x81" * 2000,
}


def test_every_target_has_a_seed() -> None:
    assert set(SEEDS) | {"answer_list", "raw_list"} == set(TARGETS)
    assert len(vectors()) == 6


@pytest.mark.parametrize("name", list(TARGETS))
def test_good_examples_are_read(name: str) -> None:
    for example in EXAMPLES:
        TARGETS[name](example)


@pytest.mark.parametrize("name", list(TARGETS))
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_bytes_and_any_change_of_good_ones(name: str, data: st.DataObject) -> None:
    TARGETS[name](data.draw(st.binary(max_size=100)))
    good = bytearray(data.draw(st.sampled_from(SEEDS.get(name, EXAMPLES))))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(good)))
        good[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    TARGETS[name](bytes(good))


@pytest.mark.parametrize("name", list(TARGETS))
@pytest.mark.parametrize("what", list(HOSTILE))
def test_what_announces_more_than_there_is_takes_no_memory(name: str, what: str) -> None:
    good = SEEDS.get(name, EXAMPLES)[0]
    tracemalloc.start()
    try:
        for at in range(min(len(good), 40)):
            TARGETS[name](good[:at] + HOSTILE[what])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 32 << 20


def test_a_slice_of_the_fuzzer_finds_nothing() -> None:
    pytest.importorskip("atheris", reason="has no wheel for this platform")
    command = [sys.executable, "-m", "tests.fuzz", "-runs=1000", "-seed=1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=55, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-4000:]
