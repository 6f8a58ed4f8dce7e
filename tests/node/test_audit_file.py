"""``audit.jsonl`` has every record that was applied, each once, whatever was cut off its end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from holdfast.wire.changes import AuditRecord
from holdfast.wire.limits import AUDIT_TAIL_MAX
from holdfast_shard.consensus.disk import RealDisk
from holdfast_shard.machine.audit import Audit
from holdfast_shard.node.audit_file import AUDIT_FILE, TAIL_BYTES, AuditFile


def audit_of(count: int, target: str = "a") -> Audit:
    audit = Audit()
    for at in range(count):
        record = AuditRecord(0, at, 0, "operator", "key", "first", "10.0.0.1:5", "note", 1, target, {}, {"a": at})
        audit.append(record)
    return audit


def lines(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / AUDIT_FILE).read_text().splitlines()]


def followed(directory: Path, audit: Audit) -> list[int]:
    """As a node does that starts, applies this, and stops."""
    file = AuditFile(RealDisk(directory))
    file.follow(audit)
    file.follow(audit)
    file.close()
    return [line["seq"] for line in lines(directory)]


def test_each_record_is_there_once_over_restarts(tmp_path: Path) -> None:
    assert followed(tmp_path, audit_of(3)) == [1, 2, 3]
    assert followed(tmp_path, audit_of(3)) == [1, 2, 3]
    assert followed(tmp_path, audit_of(5)) == [1, 2, 3, 4, 5]
    assert lines(tmp_path)[4] == {
        "seq": 5, "when_ms": 4, "actor": {"tenant": "operator", "key": "key", "key_name": "first"},
        "address": "10.0.0.1:5", "action": "note", "target": "a", "before": {}, "after": {"a": 4},
    }  # fmt: skip


def test_nothing_to_write_makes_no_file(tmp_path: Path) -> None:
    AuditFile(RealDisk(tmp_path)).follow(Audit())
    assert not (tmp_path / AUDIT_FILE).exists()


@pytest.mark.parametrize("cut", [1, 20, 200, 10_000])
def test_what_a_crash_cut_off_is_written_again(tmp_path: Path, cut: int) -> None:
    followed(tmp_path, audit_of(5))
    path = tmp_path / AUDIT_FILE
    path.write_bytes(path.read_bytes()[: -min(cut, path.stat().st_size)])
    assert followed(tmp_path, audit_of(6)) == [1, 2, 3, 4, 5, 6]


def test_a_tail_that_is_no_line_is_cut(tmp_path: Path) -> None:
    followed(tmp_path, audit_of(2))
    with (tmp_path / AUDIT_FILE).open("ab") as file:
        file.write(b"\0" * 100 + b"\n" + b'{"seq": "x"}\n' + b"\xff")
    assert followed(tmp_path, audit_of(3)) == [1, 2, 3]


def test_a_long_file_is_read_from_its_end_alone(tmp_path: Path) -> None:
    count = 2 * TAIL_BYTES // 1_000
    assert followed(tmp_path, audit_of(count, "t" * 1_000)) == list(range(1, count + 1))
    assert followed(tmp_path, audit_of(count + 1, "t" * 1_000)) == list(range(1, count + 2))


def test_what_the_state_has_forgotten_is_said_to_be_missing(tmp_path: Path) -> None:
    followed(tmp_path, audit_of(2))
    seqs = followed(tmp_path, audit_of(AUDIT_TAIL_MAX + 10))
    assert seqs[:4] == [1, 2, 10, 11]
    assert lines(tmp_path)[2] == {"seq": 10, "missing": [3, 10]}
    assert seqs[-1] == AUDIT_TAIL_MAX + 10
