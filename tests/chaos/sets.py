"""Elements added to a set under a lock, as Jepsen's lock workloads do: read, work for a while, write what was read and
one more. The set lives in a store outside the lock service, which knows nothing of leases.

A *guarded* set refuses whoever comes with a lower fencing token than it has seen, be it to read or to write. Reads
count too: else a holder that was late could still write between its successor's read and write.
"""

from __future__ import annotations

import json
import sqlite3
from enum import StrEnum
from pathlib import Path

BUSY_S = 60.0
"""A process that is stopped inside a transaction keeps all others waiting."""


class Set(StrEnum):
    GUARDED = "guarded"
    UNGUARDED = "unguarded"


class StaleToken(Exception):
    """A holder with a higher token has been here."""


class SetStore:
    """One file, used by many processes."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS sets (name TEXT PRIMARY KEY, highest INTEGER NOT NULL, members TEXT NOT NULL)"
        )

    def read(self, name: Set, token: int) -> list[str]:
        """Raises :class:`StaleToken`."""
        return self._visit(name, token, None)

    def write(self, name: Set, token: int, members: list[str]) -> None:
        """Replace the set. Raises :class:`StaleToken`."""
        self._visit(name, token, members)

    def members(self, name: Set) -> list[str]:
        row = self._database.execute("SELECT members FROM sets WHERE name = ?", (name,)).fetchone()
        return list(json.loads(row[0])) if row else []

    def close(self) -> None:
        self._database.close()

    def _visit(self, name: Set, token: int, members: list[str] | None) -> list[str]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            row = self._database.execute("SELECT highest, members FROM sets WHERE name = ?", (name,)).fetchone()
            highest, found = row if row else (0, "[]")
            if name == Set.GUARDED and token < highest:
                raise StaleToken(f"token {token} is lower than {highest}")
            kept = found if members is None else json.dumps(members)
            self._database.execute("REPLACE INTO sets VALUES (?, ?, ?)", (name, max(token, highest), kept))
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")
        return list(json.loads(kept))
