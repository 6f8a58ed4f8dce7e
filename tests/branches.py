"""``python -m tests.branches``: the branch coverage of the core, from the data that ``coverage run`` left behind.

Of branches alone, for lines without a branch are run by any test that comes by and would hide the rest. Ends with 1
when both folders together stay below ``BRANCHES_PERCENT_MIN``.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Final

from coverage import Coverage

BRANCHES_PERCENT_MIN: Final = 95.0
FOLDERS: Final = ("machine", "consensus")


def counted() -> dict[str, tuple[int, int]]:
    """(covered, all) branches by folder."""
    coverage = Coverage()
    coverage.load()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "coverage.json"
        coverage.json_report(outfile=str(report))
        files = json.loads(report.read_text())["files"]
    found = dict.fromkeys(FOLDERS, (0, 0))
    for name, file in files.items():
        folder_name = Path(name).parent.name
        covered, total = found[folder_name]
        summary = file["summary"]
        found[folder_name] = (covered + summary["covered_branches"], total + summary["num_branches"])
    return found


def main() -> int:
    found = counted()
    found["both"] = (sum(covered for covered, _ in found.values()), sum(total for _, total in found.values()))
    for name, (covered, total) in found.items():
        print(f"{name:10} {covered:5} of {total:5} branches, {100 * covered / total:.1f} %")
    covered, total = found["both"]
    return int(100 * covered < BRANCHES_PERCENT_MIN * total)


if __name__ == "__main__":
    sys.exit(main())
