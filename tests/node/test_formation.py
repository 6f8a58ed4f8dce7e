"""Forming a cluster, refusing what is not ours, replacing a lost disk."""

from __future__ import annotations

import base64
import errno
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.wire.keys import is_secret_of, split_key
from holdfast.wire.limits import SLOTS
from holdfast_shard.consensus.disk import Disk, DiskFull, RealDisk
from holdfast_shard.formation import (
    BEGUN_FILE,
    FORMATION_FILE,
    FRESH_FILE,
    IDENTITY_FILE,
    Formation,
    FormationError,
    load_directory,
    new_formation,
    note_caught_up,
    note_journal,
    read_formation,
    replace_node,
    require_journal,
    write_directory,
    write_formation,
)
from holdfast_shard.placement import place_slots, unpack_slots

ADDRESSES = ["127.0.0.1:7101", "127.0.0.1:7102", "127.0.0.1:7103"]


def formed(tmp_path: Path, groups: int = 2) -> tuple[Formation, list[Path]]:
    formation, *_ = new_formation(ADDRESSES, groups, 3, 0)
    paths = [tmp_path / f"node-{record.node}" for record in formation.nodes]
    for record, path in zip(formation.nodes, paths, strict=True):
        write_directory(formation, record.node, path)
    return formation, paths


def test_every_directory_knows_the_cluster_and_its_own_node(tmp_path: Path) -> None:
    formation, paths = formed(tmp_path)
    for number, path in enumerate(paths, start=1):
        loaded, record = load_directory(RealDisk(path))
        assert loaded == formation
        assert record.node == number
        assert (path / FORMATION_FILE).stat().st_mode & 0o077 == 0


def test_the_first_keys_are_kept_as_salted_hashes_alone() -> None:
    formation, api_key, operator_key = new_formation(ADDRESSES, 2, 3, 1_234)
    operator, tenant = formation.tenants
    assert (operator.number, operator.id, tenant.number, tenant.id) == (0, "operator", 1, "default")
    for owner, text in ((tenant, api_key), (operator, operator_key)):
        (key,) = owner.keys
        parts = split_key(text)
        assert parts is not None
        assert (key.id, key.role, key.created_ms) == (parts[0], "admin", 1_234)
        assert is_secret_of(key, parts[1])
        assert parts[1] not in str(formation)
    assert tenant.keys[0].salt != operator.keys[0].salt


def test_every_slot_has_a_group_and_groups_share_alike() -> None:
    formation, *_ = new_formation(ADDRESSES, 4, 3, 0)
    table = unpack_slots(formation.slots)
    for group in range(1, 5):
        assert 0.7 < table.count(group) / (SLOTS / 4) < 1.3


def test_adding_a_group_moves_about_its_share_of_the_slots() -> None:
    before, after = place_slots(range(1, 5)), place_slots(range(1, 6))
    moved = sum(old != new for old, new in zip(before, after, strict=True))
    assert moved == after.count(5)
    assert moved < SLOTS * 0.3


def test_members_of_many_groups_spread_over_the_nodes() -> None:
    formation, *_ = new_formation([f"127.0.0.1:{port}" for port in range(7001, 7006)], 5, 3, 0)
    for node in range(1, 6):
        assert sum(1 for group in formation.members_of(node) if group) == 3


@pytest.mark.parametrize(
    ("addresses", "groups", "replicas", "words"),
    [
        (ADDRESSES, 2, 2, "1, 3 or 5"),
        (ADDRESSES, 2, 5, "need as many nodes"),
        (ADDRESSES, 0, 3, "groups is 1"),
        ([ADDRESSES[0]] * 3, 2, 3, "address of its own"),
    ],
)
def test_impossible_numbers_are_refused(addresses: list[str], groups: int, replicas: int, words: str) -> None:
    with pytest.raises(FormationError, match=words):
        new_formation(addresses, groups, replicas, 0)


def test_a_directory_is_made_once(tmp_path: Path) -> None:
    formation, paths = formed(tmp_path)
    with pytest.raises(FormationError, match="not empty"):
        write_directory(formation, 1, paths[0])


def test_a_directory_of_another_cluster_is_refused(tmp_path: Path) -> None:
    _, paths = formed(tmp_path / "one")
    _, others = formed(tmp_path / "two")
    (paths[0] / IDENTITY_FILE).write_bytes((others[0] / IDENTITY_FILE).read_bytes())
    with pytest.raises(FormationError, match="another cluster"):
        load_directory(RealDisk(paths[0]))


@pytest.mark.parametrize("damage", [b"", b"{", b'{"version": 3}', b"\xff\xfe"])
def test_a_damaged_formation_says_so(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / FORMATION_FILE).write_bytes(damage)
    with pytest.raises(FormationError, match="no formation file"):
        read_formation(tmp_path / FORMATION_FILE)


def records(formation: Formation) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.to_builtins(formation)
    return decoded


KEY = ["aaaaaaaaaaaa", "first", "admin", "", *(base64.b64encode(bytes(size)).decode() for size in (16, 32)), 0]


def tenant(number: int, *keys: list[object]) -> list[object]:
    return [number, f"t{number}", "", "active", "unlimited", 1, [1] * 9, list(keys), 0, 0, 1]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("cluster", "", "no id"),
        ("nodes", [], "numbered from 1"),
        ("nodes", [[0, "127.0.0.1:1", "a"]], "numbered from 1"),
        ("nodes", [[1, "127.0.0.1:1", "a"], [1, "127.0.0.1:2", "b"]], "node stands there twice"),
        ("nodes", [[1, "127.0.0.1:1", "a"], [2, "127.0.0.1:2", "a"]], "identity stands there twice"),
        ("nodes", [[1, "127.0.0.1:1", "a"], [2, "127.0.0.1:1", "b"]], "address stands there twice"),
        ("nodes", [[1, "127.0.0.1:1", ""]], "no identity"),
        ("nodes", [[1, "nonsense", "a"]], "no HOST:PORT"),
        ("nodes", [[1, "127.0.0.1:0", "a"]], "1 to 65535"),
        ("nodes", [[1, "127.0.0.1:65536", "a"]], "1 to 65535"),
        ("groups", [[0, [1]], [1, [1, 2, 4]]], "not all nodes"),
        ("groups", [[0, [1]], [1, []]], "not all nodes"),
        ("groups", [[0, [1]], [1, [1, 1, 2]]], "member of group 1 stands there twice"),
        ("groups", [[1, [1]], [2, [1]]], "the meta group"),
        ("groups", [[0, [1]], [1, [1]]], r"slots belong to \[2\]"),
        ("groups", [[0, [1]], [1, [1]], [1, [2]]], "group stands there twice"),
        ("groups", [[0, [1]], [1, [1]], [4097, [1]]], "to 4096"),
        ("slots", "AAAA", "has 3 bytes, not 8192"),
        ("slots", base64.b64encode(bytes(2 * SLOTS)).decode(), r"slots belong to \[0\]"),
        ("tenants", [tenant(1, KEY)], "no operator"),
        ("tenants", [tenant(0)], "no operator with a key"),
        ("tenants", [tenant(0, KEY), tenant(-1)], "impossible number"),
        ("tenants", [tenant(0, KEY), tenant(0)], "tenant stands there twice"),
        ("tenants", [tenant(0, KEY), tenant(1, KEY)], "key stands there twice"),
        ("tenants", [tenant(0, [*KEY[:5], "AAAA", 0])], "impossible number or key"),
        ("tenants", [tenant(0, [*KEY[:4], "AAAA", *KEY[5:]])], "impossible number or key"),
        ("replaced", {"9": "new"}, "replaced"),
    ],
)
def test_a_formation_whose_parts_do_not_fit_is_refused(tmp_path: Path, field: str, value: object, words: str) -> None:
    formation, *_ = new_formation(ADDRESSES, 2, 3, 0)
    (tmp_path / FORMATION_FILE).write_bytes(msgspec.json.encode({**records(formation), field: value}))
    with pytest.raises(FormationError, match=words) as caught:
        read_formation(tmp_path / FORMATION_FILE)
    assert "restore it from another node's copy" in str(caught.value)


def test_every_formation_that_can_be_made_can_be_read(tmp_path: Path) -> None:
    for nodes, groups, replicas in ((1, 1, 1), (2, 3, 1), (5, 64, 5)):
        formation, *_ = new_formation([f"[::1]:{port}" for port in range(7001, 7001 + nodes)], groups, replicas, 0)
        write_formation(formation, tmp_path / FORMATION_FILE)
        assert read_formation(tmp_path / FORMATION_FILE) == formation


def test_a_damaged_identity_says_so(tmp_path: Path) -> None:
    _, paths = formed(tmp_path)
    (paths[0] / IDENTITY_FILE).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FormationError, match="identity: it is no text"):
        load_directory(RealDisk(paths[0]))


def test_a_directory_that_lost_its_journal_is_refused(tmp_path: Path) -> None:
    formation, paths = formed(tmp_path)
    require_journal(RealDisk(paths[0]), formation, 1, has_journal=False)
    note_journal(RealDisk(paths[0]))
    require_journal(RealDisk(paths[0]), formation, 1, has_journal=True)
    with pytest.raises(FormationError, match="lost its journal"):
        require_journal(RealDisk(paths[0]), formation, 1, has_journal=False)
    assert (paths[0] / BEGUN_FILE).exists()


def test_a_replaced_node_has_a_new_identity_everywhere_and_the_old_disk_is_refused(tmp_path: Path) -> None:
    _, paths = formed(tmp_path)
    lost, survivors, new = paths[1], [paths[0], paths[2]], tmp_path / "new"
    identity = replace_node(2, survivors, new)
    for path in (*survivors, new):
        assert load_directory(RealDisk(path))[0].node(2).identity == identity
    assert (new / FRESH_FILE).exists()
    (lost / FORMATION_FILE).write_bytes((new / FORMATION_FILE).read_bytes())
    with pytest.raises(FormationError, match="was replaced"):
        load_directory(RealDisk(lost))


def test_a_replacement_that_lost_its_mark_is_refused(tmp_path: Path) -> None:
    _, paths = formed(tmp_path)
    new = tmp_path / "new"
    replace_node(2, [paths[0], paths[2]], new)
    formation, record = load_directory(RealDisk(new))
    require_journal(RealDisk(new), formation, 2, has_journal=False)
    mark = new / FRESH_FILE
    mark.rename(aside := tmp_path / "aside")
    for has_journal in (False, True):
        with pytest.raises(FormationError, match="replace this node again"):
            require_journal(RealDisk(new), formation, record.node, has_journal=has_journal)
    require_journal(RealDisk(paths[0]), formation, 1, has_journal=False)
    aside.rename(mark)
    note_journal(RealDisk(new))
    note_caught_up(RealDisk(new))
    assert not mark.exists()
    require_journal(RealDisk(new), formation, 2, has_journal=True)


def test_a_formation_of_another_version_is_not_called_damaged(tmp_path: Path) -> None:
    _, paths = formed(tmp_path)
    for version in (2, 4):
        (paths[0] / FORMATION_FILE).write_text(json.dumps({"version": version, "replaced": []}))
        with pytest.raises(FormationError, match=f"is of version {version}; this program knows 3"):
            load_directory(RealDisk(paths[0]))


def test_the_meta_group_begins_alike_before_and_after_a_replacement(tmp_path: Path) -> None:
    """Found by the simulator: who had a snapshot and who began anew had different nodes' identities in their rows."""
    formation, paths = formed(tmp_path)
    replace_node(2, [paths[0], paths[2]], tmp_path / "new")
    after, record = load_directory(RealDisk(tmp_path / "new"))
    assert after.meta() == formation.meta()
    assert record.identity != formation.node(2).identity


def test_a_node_replaced_twice_and_another_are_all_remembered(tmp_path: Path) -> None:
    _, paths = formed(tmp_path)
    replace_node(2, [paths[0], paths[2]], tmp_path / "second")
    replace_node(3, [paths[0], tmp_path / "second"], tmp_path / "third")
    replace_node(2, [paths[0], tmp_path / "third"], tmp_path / "again")
    assert load_directory(RealDisk(tmp_path / "again"))[0].replaced.keys() == {2, 3}


class Directories:
    """What of real directories is certain to survive a power loss: the names of each as of its last sync."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kept: dict[Path, set[str]] = {}
        self.at_sync: Callable[[], None] = lambda: None
        fsync = os.fsync

        def remember(fd: int) -> None:
            fsync(fd)
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                path = Path(os.readlink(f"/proc/self/fd/{fd}"))
                self.kept[path] = set(os.listdir(path))
                self.at_sync()

        monkeypatch.setattr(os, "fsync", remember)


def test_what_is_written_survives_a_power_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directories = Directories(monkeypatch)
    _, paths = formed(tmp_path / "a" / "b")
    new = tmp_path / "new"
    replace_node(2, [paths[0], paths[2]], new)
    assert directories.kept[new] == {FORMATION_FILE, IDENTITY_FILE, FRESH_FILE}
    assert directories.kept[tmp_path / "a" / "b"] >= {"node-1"}
    assert "b" in directories.kept[tmp_path / "a"]
    assert "new" in directories.kept[tmp_path]
    note_journal(RealDisk(new))
    assert BEGUN_FILE in directories.kept[new]
    note_caught_up(RealDisk(new))
    assert FRESH_FILE not in directories.kept[new]


def test_a_replaced_formation_is_synced_under_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, paths = formed(tmp_path)
    directories = Directories(monkeypatch)
    replace_node(2, [paths[0], paths[2]], tmp_path / "new")
    assert {paths[0], paths[2]} <= directories.kept.keys()


def test_no_moment_of_a_replacement_leaves_a_directory_that_may_vote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, paths = formed(tmp_path)
    directories = Directories(monkeypatch)
    new = tmp_path / "new"

    def look() -> None:
        if (new / IDENTITY_FILE).exists():
            assert FRESH_FILE in directories.kept[new]

    directories.at_sync = look
    replace_node(2, [paths[0], paths[2]], new)
    assert (new / IDENTITY_FILE).exists()


def test_a_write_that_comes_short_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    formation, *_ = new_formation(ADDRESSES, 2, 3, 0)
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:100]))
    write_directory(formation, 1, tmp_path / "node-1")
    assert load_directory(RealDisk(tmp_path / "node-1"))[0] == formation


@pytest.mark.parametrize("doing", [note_journal, note_caught_up])
def test_a_full_disk_says_so(doing: Callable[[Disk], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    formation, *_ = new_formation(ADDRESSES, 2, 3, 0)
    write_directory(formation, 1, tmp_path, fresh=True)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for call in ("replace", "unlink"):
        monkeypatch.setattr(os, call, full)
    with pytest.raises(DiskFull, match="disk full"):
        doing(RealDisk(tmp_path))


def test_a_replacement_needs_every_survivor_of_one_cluster(tmp_path: Path) -> None:
    _, paths = formed(tmp_path / "one")
    _, others = formed(tmp_path / "two")
    with pytest.raises(FormationError, match="have to be nodes"):
        replace_node(2, [paths[0]], tmp_path / "new")
    with pytest.raises(FormationError, match="different clusters"):
        replace_node(2, [paths[0], others[2]], tmp_path / "new")
