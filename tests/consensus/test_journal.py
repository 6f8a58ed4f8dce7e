"""The journal: what was synced is there again, in order; nothing is made up; damage is refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from random import Random
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast_shard.consensus import records
from holdfast_shard.consensus.disk import AHEAD_BYTES, Disk, DiskError, DiskFull, RealDisk
from holdfast_shard.consensus.journal import Journal, JournalDamaged, JournalFailed, JournalFull, RecoveredGroup
from holdfast_shard.consensus.records import ENTRY, HEADER, UNTOLD, highest_mark
from tests.consensus.journal_bugs import BUGS
from tests.simulation.disk import SimAppendFile, SimDisk

Entry = tuple[int, int, bytes]


def commit(journal: Journal) -> int:
    journal.flush()
    return journal.sync()


def segments(disk: Disk) -> list[str]:
    return [name for name in disk.names() if name.startswith("journal-")]


def indices(recovered: dict[int, RecoveredGroup], group: int = 1) -> list[int]:
    return [entry[0] for entry in recovered[group].entries]


def written(disk: Disk, count: int = 10, **settings: int) -> Journal:
    journal, _ = Journal.open(disk, **settings)
    for index in range(1, count + 1):
        journal.append_entry(1, index, 1, b"payload %d" % index)
        commit(journal)
    return journal


def rest(journal: Journal) -> None:
    """What a driver does when nothing was written for a while."""
    if journal.mark() > journal.durable:
        commit(journal)


# What was acknowledged survives.


@dataclass(frozen=True)
class GroupModel:
    term: int = 0
    voted_for: int | None = None
    released: int = 0
    last: int = 0
    entries: tuple[Entry, ...] = ()
    """Those above `released`."""


@dataclass
class Model:
    """What the journal should hold after each write number."""

    groups: dict[int, GroupModel] = field(default_factory=dict)
    history: list[tuple[int, dict[int, GroupModel]]] = field(default_factory=list)

    def note(self, number: int) -> None:
        self.history.append((number, dict(self.groups)))

    def go_back_to(self, number: int) -> None:
        self.groups = dict([state for at, state in self.history if at <= number][-1])
        self.history = [(number, dict(self.groups))]


class Schedule:
    """A random life of one journal: three groups, small segments, crashes and kills."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.disk = SimDisk(seed=seed)
        self.segment_bytes = self.rng.choice((1024, 5_000, 30_000))
        self.entry_bytes_max = self.rng.choice((40, 900, 9_000))
        self.journal, _ = Journal.open(self.disk, segment_bytes=self.segment_bytes)
        self.model = Model()
        self.model.note(self.journal.appended)

    def run(self, steps: int) -> None:
        actions: list[tuple[int, Callable[[], None]]] = [
            (30, self.entry), (3, self.truncate), (4, self.vote), (2, self.start), (6, self.release),
            (12, self.flush), (3, self.sync_alone), (12, self.sync), (1, self.mark), (1, self.restart),
        ]  # fmt: skip
        weights, functions = [weight for weight, _ in actions], [function for _, function in actions]
        for _ in range(steps):
            self.rng.choices(functions, weights)[0]()
        self.restart()

    def pick(self) -> tuple[int, GroupModel]:
        group = self.rng.choices((1, 2, 3), (20, 5, 1))[0]
        return group, self.model.groups.get(group, GroupModel())

    def became(self, group: int, model: GroupModel) -> None:
        self.model.groups[group] = model
        self.model.note(self.journal.appended)

    def entry(self) -> None:
        group, old = self.pick()
        index = old.last + 1 if old.last else self.rng.choice((1, 2, 50))
        payload = self.rng.randbytes(self.rng.randint(0, self.entry_bytes_max))
        self.journal.append_entry(group, index, old.term, payload)
        released = old.released if old.last else index - 1
        entries = (*old.entries, (index, old.term, payload))
        self.became(group, replace(old, last=index, released=released, entries=entries))

    def truncate(self) -> None:
        group, old = self.pick()
        if old.entries:
            at = self.rng.randint(max(old.released + 1, old.last - 4), old.last)
            self.journal.append_truncate(group, at)
            # Often in the same term, so that the same index and term come back with another payload.
            term = old.term + self.rng.randint(0, 1)
            entries = old.entries[: at - old.last - 1 or None]
            self.became(group, replace(old, last=at - 1, entries=entries))
            self.journal.append_vote(group, term, None)
            self.became(group, replace(self.model.groups[group], term=term, voted_for=None))

    def vote(self) -> None:
        group, old = self.pick()
        voted_for = self.rng.choice((None, 0, 1, 2))
        self.journal.append_vote(group, old.term + 1, voted_for)
        self.became(group, replace(old, term=old.term + 1, voted_for=voted_for))

    def start(self) -> None:
        group, old = self.pick()
        index = old.released + self.rng.randint(1, 12)
        held = next((entry[1] for entry in old.entries if entry[0] == index), None)
        term = self.rng.choice((held or 0, old.term))
        self.journal.append_start(group, index, term)
        entries = tuple(entry for entry in old.entries if entry[0] > index) if held == term else ()
        last = old.last if held == term else index
        self.became(group, replace(old, released=index, last=last, entries=entries))

    def release(self) -> None:
        group, old = self.pick()
        if old.entries:
            index = self.rng.randint(old.released, old.last)
            self.journal.release(group, index)
            entries = tuple(entry for entry in old.entries if entry[0] > index)
            self.became(group, replace(old, released=index, entries=entries))

    def flush(self) -> None:
        self.journal.flush()

    def mark(self) -> None:
        self.journal.mark()

    def sync_alone(self) -> None:
        """As from another thread: what was appended meanwhile is not flushed yet."""
        assert self.journal.sync() == self.journal.flushed

    def sync(self) -> None:
        self.journal.flush()
        assert self.journal.sync() == self.journal.flushed

    def restart(self) -> None:
        if self.rng.random() < 0.2:
            self.disk.kill()
        else:
            self.disk.crash(self.rng)
        before = self.journal
        self.journal, recovered = Journal.open(self.disk, segment_bytes=self.segment_bytes)
        assert before.durable <= self.journal.appended <= before.appended
        self.model.go_back_to(self.journal.appended)
        self.compare(recovered)
        if self.rng.random() < 0.5:
            # What was read once is durable, even if the process before never synced it.
            self.disk.crash(self.rng)
            self.journal, again = Journal.open(self.disk, segment_bytes=self.segment_bytes)
            self.compare(again)
        self.model.go_back_to(self.journal.appended)

    def compare(self, recovered: dict[int, RecoveredGroup]) -> None:
        assert recovered.keys() == self.model.groups.keys()
        for group, model in self.model.groups.items():
            found = recovered[group]
            assert (found.term, found.voted_for) == (model.term, model.voted_for)
            assert tuple(found.entries) == model.entries
            assert found.released == model.released


@settings(max_examples=250, deadline=None)
@given(seed=st.integers(0, 2**32), steps=st.integers(5, 250))
def test_a_crash_at_any_point_loses_nothing_acknowledged_and_invents_nothing(seed: int, steps: int) -> None:
    Schedule(seed).run(steps)


@pytest.mark.seeds_bugs
@pytest.mark.parametrize("name", BUGS)
def test_the_schedules_catch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def search() -> None:
        for seed in range(300):
            Schedule(seed).run(150)

    BUGS[name](monkeypatch)
    with pytest.raises((AssertionError, JournalDamaged, DiskError, FileNotFoundError, KeyError)):
        search()


# Torn or damaged.


@settings(max_examples=200, deadline=None)
@given(position=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255), rests=st.booleans())
def test_a_changed_byte_is_refused_or_cut_but_never_read(position: float, mask: int, rests: bool) -> None:
    disk = SimDisk()
    journal = written(disk, 30, segment_bytes=1024)
    if rests:
        rest(journal)
    sizes = {name: len(disk.read(name)) for name in segments(disk)}
    at = int(position * sum(sizes.values()))
    last_record = sum(sizes.values()) - at <= records.HEADER_BYTES + (0 if rests else len(b"payload 30"))
    name = next(name for name, end in zip(sizes, accumulate(sizes.values()), strict=True) if at < end)
    at -= sum(size for earlier, size in sizes.items() if earlier < name)
    disk.rot(name, at, mask)
    if last_record:
        # The only record that none behind it calls synced. With a rest before, it is the mark: nothing is lost.
        _, recovered = Journal.open(disk, segment_bytes=1024)
        assert indices(recovered) == list(range(1, 31 if rests else 30))
    else:
        with pytest.raises(JournalDamaged, match="do not copy an older directory back") as error:
            Journal.open(disk, segment_bytes=1024)
        assert name == error.value.file or len(disk.read(name)) > at
        assert at - 2000 < error.value.offset <= at or error.value.file != name


def test_damage_names_file_and_place() -> None:
    disk = SimDisk()
    written(disk)
    name = segments(disk)[-1]
    at = disk.read(name).index(b"payload 3")
    disk.rot(name, at)
    with pytest.raises(JournalDamaged, match=f"{name}, byte {at - records.HEADER_BYTES}: record 4 is damaged") as error:
        Journal.open(disk)
    assert (error.value.file, error.value.offset) == (name, at - records.HEADER_BYTES)


def test_at_rest_the_last_acknowledged_write_is_provably_synced() -> None:
    disk = SimDisk()
    journal = written(disk)
    rest(journal)
    syncs, size = disk.syncs, len(disk.read(segments(disk)[-1]))
    rest(journal)
    assert (disk.syncs, len(disk.read(segments(disk)[-1]))) == (syncs, size), "one mark is enough"
    disk.rot(segments(disk)[-1], disk.read(segments(disk)[-1]).index(b"payload 10"))
    with pytest.raises(JournalDamaged):
        Journal.open(disk)


def test_a_torn_tail_is_cut_reported_and_written_over() -> None:
    disk = SimDisk()
    journal = written(disk)
    end = len(disk.read(segments(disk)[-1]))
    journal.append_entry(1, 11, 1, b"never synced")
    journal.append_entry(1, 12, 1, b"nor this")
    journal.flush()
    disk.rot(segments(disk)[-1], end + 5)
    journal, recovered = Journal.open(disk)
    assert indices(recovered) == list(range(1, 11))
    assert journal.torn is not None
    assert (journal.torn.file, journal.torn.offset) == (segments(disk)[-1], end)
    journal.append_entry(1, 11, 2, b"again")
    commit(journal)
    journal, recovered = Journal.open(disk)
    assert journal.torn is None
    assert recovered[1].entries[-1] == (11, 2, b"again")


def test_zeros_written_ahead_are_no_torn_tail(tmp_path: Path) -> None:
    journal, _ = Journal.open(RealDisk(tmp_path), segment_bytes=10_000)
    for index in range(1, 31):
        journal.append_entry(1, index, 1, b"x" * 1000)
        commit(journal)
    sizes = {file.name: file.stat().st_size for file in sorted(tmp_path.iterdir())}
    *sealed, last = sizes
    assert sizes[last] > 10_000, "the last has room"
    assert all(sizes[name] <= 10_000 for name in sealed), "the others gave it back"
    # As a killed process leaves it.
    journal, recovered = Journal.open(RealDisk(tmp_path))
    assert journal.torn is None
    assert indices(recovered) == list(range(1, 31))
    journal.close()
    assert (tmp_path / last).stat().st_size <= 10_000


def test_more_zeros_than_are_ever_written_ahead_are_a_torn_tail() -> None:
    disk = SimDisk()
    written(disk)
    disk.append(segments(disk)[-1]).write(bytes(AHEAD_BYTES + 1))
    journal, recovered = Journal.open(disk)
    assert indices(recovered) == list(range(1, 11))
    assert journal.torn is not None
    assert journal.torn.size_bytes == AHEAD_BYTES + 1


def test_what_is_missing_in_front_of_zeros_shows_in_the_next_segment() -> None:
    """A segment that crashed untrimmed ends in zeros; so would one that lost its last record."""
    disk = SimDisk()
    journal, _ = Journal.open(disk, segment_bytes=2000)
    for index in range(1, 11):
        journal.append_entry(1, index, 1, b"payload %d" % index * 50)
        commit(journal)
    first, *_ = segments(disk)
    start = disk.read(first).rindex(b"HFRE") - 28
    for offset, byte in enumerate(disk.read(first)[start:], start):
        if byte:
            disk.rot(first, offset, byte)
    with pytest.raises(JournalDamaged, match="was synced once"):
        Journal.open(disk)


def test_bytes_that_a_client_chose_are_no_proof() -> None:
    disk = SimDisk()
    journal = written(disk)
    end = len(disk.read(segments(disk)[-1]))
    forged = records.encode_header(records.MARK, 0, 100, 99, 0, 0, b"", records.place(1, 0))
    journal.append_entry(1, 11, 1, forged * 50)
    journal.flush()
    disk.rot(segments(disk)[-1], end + 5)
    _, recovered = Journal.open(disk)
    assert indices(recovered) == list(range(1, 11))


@pytest.mark.parametrize("lost", [0, 1, -2])
def test_a_lost_segment_is_noticed(lost: int) -> None:
    disk = SimDisk()
    written(disk, 100, segment_bytes=1024)
    disk.remove(segments(disk)[lost])
    with pytest.raises(JournalDamaged):
        Journal.open(disk)


def test_a_segment_of_another_release_is_refused_as_such() -> None:
    disk = SimDisk()
    with mock.patch.object(records, "_VERSION", 2):
        written(disk)
    with pytest.raises(DiskError, match="journal version 2 is not the 1 that this release reads"):
        Journal.open(disk)


# Votes, starts, releases.


def test_terms_and_votes_come_back_when_their_segment_is_gone() -> None:
    disk = SimDisk()
    journal, _ = Journal.open(disk, segment_bytes=1024)
    journal.append_vote(1, 7, 3)
    journal.append_vote(2, 9, None)
    for index in range(1, 100):
        journal.append_entry(1, index, 7, b"x" * 100)
        journal.release(1, index)
        commit(journal)
    assert len(segments(disk)) <= 2
    _, recovered = Journal.open(disk)
    assert (recovered[1].term, recovered[1].voted_for) == (7, 3)
    assert (recovered[2].term, recovered[2].voted_for) == (9, None)


@pytest.mark.parametrize(("term", "kept"), [(1, [5]), (2, [])])
def test_a_start_keeps_only_the_tail_that_belongs_to_the_snapshot(term: int, kept: list[int]) -> None:
    disk = SimDisk()
    journal = written(disk, 5)
    journal.append_start(1, 4, term)
    commit(journal)
    journal, recovered = Journal.open(disk)
    assert indices(recovered) == kept
    assert recovered[1].released == 4
    journal.append_entry(1, len(kept) + 5, 3, b"next")
    commit(journal)
    assert indices(Journal.open(disk)[1]) == [*kept, len(kept) + 5]


def test_an_idle_group_pins_no_segments_and_keeps_its_entries() -> None:
    disk = SimDisk()
    journal, _ = Journal.open(disk, segment_bytes=10_000)
    journal.append_vote(2, 5, 1)
    journal.append_entry(2, 1, 5, b"first")
    journal.append_entry(2, 2, 5, b"cut off")
    journal.append_truncate(2, 2)
    journal.append_entry(2, 2, 5, b"second")
    for index in range(1, 400):
        journal.append_entry(1, index, 1, bytes(500))
        commit(journal)
        if index % 20 == 0:
            journal.release(1, index - 5)
    assert len(segments(disk)) <= 6
    assert segments(disk)[0] > f"journal-{2:016x}.log", "the idle group's first segment is gone"
    disk.crash(Random(3))
    journal, recovered = Journal.open(disk, segment_bytes=10_000)
    assert recovered[2].entries == [(1, 5, b"first"), (2, 5, b"second")]
    assert (recovered[2].term, recovered[2].voted_for) == (5, 1)
    assert indices(recovered) == list(range(376, 400))
    journal.append_entry(2, 3, 5, b"third")
    commit(journal)
    assert indices(Journal.open(disk)[1], 2) == [1, 2, 3]


@pytest.mark.parametrize("busy_bytes", [500, 30_000, 150_000])
def test_large_segments_are_carried_piece_by_piece(busy_bytes: int) -> None:
    disk = SimDisk()
    journal, _ = Journal.open(disk, segment_bytes=300_000)
    kept = [(index, 1, Random(index).randbytes(10_000)) for index in range(1, 41)]
    for index, term, payload in kept:
        journal.append_entry(2, index, term, payload)
        journal.append_entry(1, index, 1, payload)
    longest = 0
    for index in range(41, 41 + 6_000_000 // busy_bytes):
        before = journal.appended
        journal.append_entry(1, index, 1, bytes(busy_bytes))
        longest = max(longest, journal.appended - before)
        commit(journal)
        journal.release(1, index - 1)
    assert segments(disk)[0] > f"journal-{3:016x}.log", "the idle group's segments are gone"
    assert sum(len(disk.read(name)) for name in segments(disk)) <= 7 * 300_000
    if busy_bytes == 500:
        assert longest < 12, "no append waits for a whole segment"
    disk.crash(Random(1))
    assert Journal.open(disk, segment_bytes=300_000)[1][2].entries == kept


# Trouble.


def test_a_failed_sync_is_final() -> None:
    disk = SimDisk()
    journal = written(disk)
    journal.append_entry(1, 11, 1, b"x")
    journal.flush()
    disk.failing_syncs = 1
    calls = (journal.sync, journal.sync, journal.flush, lambda: journal.append_vote(1, 2, None))
    for call in calls:
        with pytest.raises(JournalFailed, match="input/output error"):
            call()
    assert journal.durable == 11
    disk.crash(Random(1))
    assert indices(Journal.open(disk)[1])[:10] == list(range(1, 11))


def test_a_full_disk_says_so_and_loses_nothing_acknowledged() -> None:
    disk = SimDisk(capacity_bytes=5_000)
    journal = written(disk)
    # Not zeros: cut short among zeros written ahead, such a payload would be whole, and might be kept.
    journal.append_entry(1, 11, 1, b"x" * 10_000)
    for call in (journal.flush, journal.sync):
        with pytest.raises(JournalFull, match="disk full") as error:
            call()
        assert isinstance(error.value, DiskFull)
        assert isinstance(error.value, JournalFailed)
    disk.kill()
    _, recovered = Journal.open(disk)
    assert indices(recovered) == list(range(1, 11))


def test_a_closed_journal_is_not_used() -> None:
    journal = written(SimDisk())
    journal.close()
    with pytest.raises(JournalFailed, match="closed"):
        journal.append_vote(1, 2, None)


def test_a_sync_does_not_acknowledge_what_was_flushed_while_it_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SimDisk()
    journal = written(disk)
    journal.append_entry(1, 11, 1, b"before")
    before = journal.flush()
    sync = SimAppendFile.sync

    def sync_slowly(self: SimAppendFile) -> None:
        sync(self)
        journal.append_entry(1, 12, 1, b"meanwhile")
        journal.flush()

    monkeypatch.setattr(SimAppendFile, "sync", sync_slowly)
    assert journal.sync() == journal.durable == before


def test_a_sync_in_another_thread_acknowledges_only_what_was_flushed_before(tmp_path: Path) -> None:
    journal, _ = Journal.open(RealDisk(tmp_path), segment_bytes=50_000)
    finished = threading.Event()
    failures: list[str] = []

    def sync() -> None:
        while not finished.is_set():
            before = journal.flushed
            if not before <= journal.sync() <= journal.appended:
                failures.append("out of order")

    thread = threading.Thread(target=sync)
    thread.start()
    for index in range(1, 3_000):
        journal.append_entry(1, index, 1, b"x" * 200)
        journal.flush()
        if index % 100 == 0:
            journal.release(1, index - 50)
    finished.set()
    thread.join(10)
    assert failures == []
    assert journal.sync() == journal.appended
    journal.close()
    _, recovered = Journal.open(RealDisk(tmp_path), segment_bytes=50_000)
    assert indices(recovered) == list(range(2_851, 3_000))


@pytest.mark.parametrize("seed", range(20))
def test_what_a_failed_sync_left_in_memory_only_is_written_again(seed: int) -> None:
    disk = SimDisk(seed=seed)
    journal, _ = Journal.open(disk, segment_bytes=1 << 14)
    journal.append_vote(1, 5, 1)
    for index in range(2, 12):
        journal.append_entry(1, index, 5, bytes([index]) * 3000)
        journal.flush()
        if index == 11:
            disk.failing_syncs = 1
            with pytest.raises(JournalFailed):
                journal.sync()
        else:
            journal.sync()
    disk.kill()
    journal, recovered = Journal.open(disk, segment_bytes=1 << 14)
    claimed = recovered[1].entries
    assert claimed[-1][0] == 11, "the system shows what it has in memory"
    disk.crash(Random(seed))
    _, recovered = Journal.open(disk, segment_bytes=1 << 14)
    assert recovered[1].entries == claimed


def test_a_mark_proves_the_last_record() -> None:
    disk = SimDisk()
    journal, _ = Journal.open(disk)
    journal.append_vote(1, 5, 1)
    journal.flush()
    journal.sync()
    journal.mark()
    assert journal.marked
    journal.flush()
    journal.sync()
    name = segments(disk)[-1]
    disk.rot(name, disk.read(name).index(b"HFRV"))
    disk.kill()
    with pytest.raises(JournalDamaged):
        Journal.open(disk)


def test_megabytes_that_resemble_records_do_not_hold_up_the_start() -> None:
    """At each look the CRC of all that follows would be taken: hours, for what one client may write."""
    data = b"\x01" * 3 + b"HFR\0" * (1 << 20)
    assert highest_mark(data, 0, 1, 1) == 0
    like = HEADER.pack(0, 1 << 16, 7, 6, 1, ENTRY, 1, 1)
    assert highest_mark(like * 20_000, 0, 1, 1) == UNTOLD
