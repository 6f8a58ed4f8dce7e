"""Flame graphs of running processes, by py-spy, which looks at them from outside: nothing of theirs is changed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

PY_SPY: Final = Path(sys.executable).with_name("py-spy")
LOOKS_PER_S: Final = 250
END_S: Final = 60.0
"""For writing what was seen."""


class FlameFailed(Exception):
    """What py-spy said."""


class Flames:
    """Looks at ``processes`` (name and process id) for ``seconds`` from when it is entered, and leaves ``NAME.svg`` of
    each in ``directory`` when it is left. Raises :class:`FlameFailed`."""

    def __init__(self, processes: Mapping[str, int], directory: Path, seconds: float) -> None:
        self._processes = processes
        self._directory = directory
        self._seconds = seconds
        self._looking: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        for name, pid in self._processes.items():
            out = self._directory / f"{name.replace(' ', '-')}.svg"
            command = [PY_SPY, "record", "--pid", str(pid), "--duration", str(max(int(self._seconds), 1))]
            command += ["--rate", str(LOOKS_PER_S), "--output", str(out)]
            self._looking.append(
                subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            )
        return self

    def __exit__(self, *unused: object) -> None:
        failed = []
        for process in self._looking:
            try:
                _, said = process.communicate(timeout=END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                _, said = process.communicate()
            if process.returncode:
                failed.append(said.strip())
        if failed:
            raise FlameFailed("\n".join(failed))
