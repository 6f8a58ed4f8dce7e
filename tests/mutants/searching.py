"""A mutant put before the simulator: ``python -m tests.mutants.searching NAME SEEDS_MAX VERDICT``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.mutants.catalogue import mutant
from tests.simulation.search import first_failure


def search(name: str, seeds_max: int) -> dict[str, object]:
    """What the plugin writes for tests: ``ran`` is seeds, ``failed`` the one that showed a violation."""
    found = first_failure(range(seeds_max), mutant(name).apply)
    if found is None:
        return {"ran": seeds_max, "failed": "", "why": "", "mistakes": []}
    clean = first_failure([found.seed], None)
    mistakes = [] if clean is None else [f"seed {found.seed} fails without the mutant too: {clean.violation}"]
    failed = "" if mistakes else f"seed {found.seed}"
    return {"ran": found.seeds_run, "failed": failed, "why": found.violation, "mistakes": mistakes}


if __name__ == "__main__":
    Path(sys.argv[3]).write_text(json.dumps(search(sys.argv[1], int(sys.argv[2]))))
