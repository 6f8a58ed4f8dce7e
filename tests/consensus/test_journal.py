"""The journal: what was synced is there again, what is not whole is never invented, damage is refused."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from holdfast_shard.consensus.disk import DirectoryInUse, DiskError, DiskFull, RealDisk
from holdfast_shard.consensus.journal import Journal, JournalDamaged, JournalFailed, RecoveredGroup
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.consensus.disks import SimDisk


def entries_of(recovered: dict[int, RecoveredGroup], group: int = 1) -> list[tuple[int, int, bytes]]:
    return recovered[group].entries if group in recovered else []


def commit(journal: Journal) -> int:
    journal.flush()
    return journal.sync()


State = dict[int, tuple[list[tuple[int, int, bytes]], int, int | None]]


class Model:
    """What the journal should hold, by write number."""

    def __init__(self) -> None:
        self.states: list[State] = [{}]

    def record(self, write: int, state: State) -> None:
        while len(self.states) <= write:
            self.states.append(self.states[-1])
        self.states[write] = {group: (list(log), term, vote) for group, (log, term, vote) in state.items()}


Step = tuple[str, int, int]
steps = st.lists(
    st.tuples(
        st.sampled_from(["entry", "entry", "entry", "truncate", "vote", "sync", "flush"]),
        st.integers(1, 2),
        st.integers(0, 9000),
    ),
    min_size=1,
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(steps=steps, seed=st.integers(0, 2**32))
def test_a_crash_keeps_every_synced_write_and_invents_none(steps: list[Step], seed: int) -> None:
    rng = random.Random(seed)
    disk = SimDisk()
    journal, _ = Journal.open(disk, segment_bytes=20_000)
    model = Model()
    state: State = {1: ([], 0, None), 2: ([], 0, None)}
    first = journal.appended
    for kind, group, size in steps:
        log, term, vote = state[group]
        if kind == "entry":
            payload = rng.randbytes(size % 7000)
            write = journal.append_entry(group, len(log) + 1, term, payload)
            log.append((len(log) + 1, term, payload))
        elif kind == "truncate" and log:
            at = size % len(log)
            write = journal.append_truncate(group, at + 1)
            del log[at:]
            # Another leader, another term: an entry that comes back differs.
            state[group] = (log, term + 1, vote)
        elif kind == "vote":
            write = journal.append_vote(group, term + 1, size % 5)
            state[group] = (log, term + 1, size % 5)
        elif kind == "sync":
            commit(journal)
            continue
        else:
            journal.flush()
            continue
        model.record(write, state)
    durable = journal.durable
    disk.crash(rng)
    _, recovered = Journal.open(disk, segment_bytes=20_000)
    got = {g: recovered.get(g, RecoveredGroup()) for g in (1, 2)}
    candidates = model.states[max(durable, first) :] or [model.states[-1]]
    wanted = [all(got[g].entries == expected.get(g, ([], 0, None))[0] for g in (1, 2)) for expected in candidates]
    assert any(wanted), "what was read back is no state at or after the last sync"


def test_terms_and_votes_come_back() -> None:
    disk = SimDisk()
    journal, _ = Journal.open(disk)
    journal.append_vote(1, 7, 3)
    journal.append_vote(2, 9, None)
    commit(journal)
    disk.crash(random.Random(1))
    _, recovered = Journal.open(disk)
    assert (recovered[1].term, recovered[1].voted_for) == (7, 3)
    assert (recovered[2].term, recovered[2].voted_for) == (9, None)


def written(disk: SimDisk, count: int = 10) -> Journal:
    journal, _ = Journal.open(disk)
    for index in range(1, count + 1):
        journal.append_entry(1, index, 1, b"payload %d" % index)
        commit(journal)
    return journal


def newest(disk: SimDisk) -> str:
    return [name for name in disk.names() if name.startswith("journal-")][-1]


def test_damage_below_the_highest_mark_refuses_to_start_and_says_where() -> None:
    disk = SimDisk()
    written(disk)
    name = newest(disk)
    at = disk.read(name).index(b"payload 3")
    disk.overwrite(name, at, b"X")
    with pytest.raises(JournalDamaged, match=rf"{name} is damaged at byte \d+.*replace this node's disk"):
        Journal.open(disk)


def test_an_idle_journals_mark_tells_damage_of_the_last_write_from_a_torn_one() -> None:
    disk = SimDisk()
    journal = written(disk)
    torn = disk.read(newest(disk)).index(b"payload 10")
    journal.mark()
    journal.flush()
    disk.overwrite(newest(disk), torn, b"X")
    with pytest.raises(JournalDamaged):
        Journal.open(disk)


def test_a_torn_last_write_is_cut_and_the_journal_goes_on() -> None:
    disk = SimDisk()
    journal = written(disk)
    journal.append_entry(1, 11, 1, b"never synced")
    journal.flush()
    disk.overwrite(newest(disk), disk.read(newest(disk)).index(b"never synced"), b"X")
    journal, recovered = Journal.open(disk)
    assert [entry[0] for entry in entries_of(recovered)] == list(range(1, 11))
    journal.append_entry(1, 11, 2, b"again")
    commit(journal)
    _, recovered = Journal.open(disk)
    assert entries_of(recovered)[-1] == (11, 2, b"again")


def test_a_start_keeps_the_tail_that_belongs_to_the_snapshot_and_drops_another() -> None:
    for term, kept in ((1, [4, 5]), (2, [])):
        disk = SimDisk()
        journal, _ = Journal.open(disk)
        for index in range(1, 6):
            journal.append_entry(1, index, 1, b"e")
        journal.append_start(1, 4, term)
        commit(journal)
        _, recovered = Journal.open(disk)
        assert [entry[0] for entry in entries_of(recovered)] == kept


def segments(disk: SimDisk) -> list[str]:
    return [name for name in disk.names() if name.startswith("journal-")]


def test_released_segments_go_and_an_idle_group_pins_none() -> None:
    disk = SimDisk()
    journal, _ = Journal.open(disk, segment_bytes=10_000)
    journal.append_vote(2, 5, 1)
    journal.append_entry(2, 1, 5, b"idle group")
    for index in range(1, 200):
        journal.append_entry(1, index, 1, bytes(500))
        commit(journal)
        if index % 20 == 0:
            journal.release(1, index - 5)
    assert len(segments(disk)) <= 4
    disk.crash(random.Random(3))
    _, recovered = Journal.open(disk, segment_bytes=10_000)
    assert entries_of(recovered, 2) == [(1, 5, b"idle group")]
    assert (recovered[2].term, recovered[2].voted_for) == (5, 1)
    assert [entry[0] for entry in entries_of(recovered)] == list(range(176, 200))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_release_at_any_time_loses_nothing_that_is_needed(seed: int) -> None:
    rng = random.Random(seed)
    disk = SimDisk()
    journal, _ = Journal.open(disk, segment_bytes=4_000)
    last, floor = {1: 0, 2: 0, 3: 0}, {1: 0, 2: 0, 3: 0}
    for _ in range(rng.randint(10, 120)):
        group = rng.choice([1, 1, 1, 2, 2, 3])
        if rng.random() < 0.2 and last[group] > floor[group]:
            floor[group] = rng.randint(floor[group] + 1, last[group])
            journal.release(group, floor[group])
        else:
            last[group] += 1
            journal.append_entry(group, last[group], 1, rng.randbytes(rng.randint(0, 900)))
            commit(journal)
    commit(journal)
    disk.crash(rng)
    _, recovered = Journal.open(disk, segment_bytes=4_000)
    for group in (1, 2, 3):
        assert [entry[0] for entry in entries_of(recovered, group)] == list(range(floor[group] + 1, last[group] + 1))


def test_a_failed_sync_is_final() -> None:
    disk = SimDisk()
    journal, _ = Journal.open(disk)
    journal.append_entry(1, 1, 1, b"x")
    journal.flush()
    disk.failing = True
    with pytest.raises(JournalFailed):
        journal.sync()
    disk.failing = False
    with pytest.raises(JournalFailed):
        journal.sync()
    with pytest.raises(JournalFailed):
        journal.flush()


@pytest.fixture
def real(tmp_path: Path) -> Callable[[], RealDisk]:
    return lambda: RealDisk(tmp_path / "data")


def test_the_same_on_a_real_disk(real: Callable[[], RealDisk]) -> None:
    journal, _ = Journal.open(real(), segment_bytes=50_000)
    for index in range(1, 300):
        journal.append_entry(1, index, 1, bytes(1000))
        commit(journal)
    journal.close()
    _, recovered = Journal.open(real())
    assert len(entries_of(recovered)) == 299


def test_a_directory_in_use_is_refused(real: Callable[[], RealDisk]) -> None:
    first = real()
    first.lock()
    with pytest.raises(DirectoryInUse, match="in use by another process"):
        real().lock()


def test_an_unreadable_directory_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="cannot make"):
        RealDisk(tmp_path / "file" / "data")


def test_a_full_disk_has_its_own_error() -> None:
    file = RealDisk("/dev").append("full")
    with pytest.raises(DiskFull, match="no space left"):
        file.write(b"x")
    file.close()
