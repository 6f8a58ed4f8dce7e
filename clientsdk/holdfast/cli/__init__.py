"""The ``holdfast`` command. One module for each group of commands; exit codes are in ``docs/cli.md``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .dumps import forbid_core_dumps


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    forbid_core_dumps()
    try:
        from .program import run_program  # noqa: PLC0415 - the extra 'cli' may not be installed
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        print("holdfast: the command line needs more packages: pip install 'holdfast[cli]'", file=sys.stderr)
        return 78
    return run_program(list(sys.argv[1:] if arguments is None else arguments))
