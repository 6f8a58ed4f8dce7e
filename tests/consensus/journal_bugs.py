"""Bugs of the journal, and of the disk below it, that its random schedules must find."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest

from holdfast_shard.consensus import recovery
from holdfast_shard.consensus.journal import Journal
from tests.simulation.disk import SimAppendFile, SimDisk

Apply = Callable[[pytest.MonkeyPatch], None]


class _Anything:
    """A checksum equal to every other."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


def _give_up_the_oldest(self: Journal) -> None:
    _COLLECT(self)
    if len(self._sizes) > 4:
        oldest = next(iter(self._sizes))
        del self._sizes[oldest]
        self._doomed.append((oldest, self.appended))


def _reopen_without_sync(self: Journal, found: recovery.Recovery) -> None:
    with mock.patch.object(SimDisk, "write_again", return_value=None):
        _REOPEN(self, found)


def _delete_at_once(self: Journal) -> None:
    _COLLECT(self)
    for segment, _ in self._doomed:
        self._disk.remove(f"journal-{segment:016x}.log")
        self._disk.sync_directory()
    self._doomed.clear()


def _crc_is_not_looked_at(*_: object) -> _Anything:
    return _Anything()


def _replace(owner: Any, name: str, replacement: Any) -> Apply:
    return lambda monkeypatch: monkeypatch.setattr(owner, name, replacement)


_REOPEN, _COLLECT = Journal._reopen, Journal._collect
BUGS: dict[str, Apply] = {
    "a sync that does nothing": _replace(SimAppendFile, "sync", lambda self: None),
    "names that are never synced": _replace(SimDisk, "sync_directory", lambda self: None),
    "records taken unchecked": _replace(recovery, "zlib", mock.Mock(crc32=_crc_is_not_looked_at)),
    "a torn tail left in place": _replace(SimDisk, "truncate", lambda self, name, size: None),
    "every bad record refused": _replace(recovery, "highest_mark", lambda *_: 1 << 60),
    "segments deleted with live entries": _replace(Journal, "_collect", _give_up_the_oldest),
    "what was read not synced": _replace(Journal, "_reopen", _reopen_without_sync),
    "segments deleted before that is durable": _replace(Journal, "_collect", _delete_at_once),
}
