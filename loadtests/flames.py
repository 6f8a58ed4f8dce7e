"""Flame graphs of running processes, by py-spy, which looks at them from outside: nothing of theirs is changed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

PY_SPY: Final = Path(sys.executable).with_name("py-spy")
LOOKS_PER_S: Final = 250
END_S: Final = 60.0
"""For writing what was seen."""


class FlameFailed(Exception):
    """What py-spy said."""


def why_no_flames() -> str:
    """What is missing; empty when nothing is."""
    if not PY_SPY.exists():
        return f"py-spy beside this Python: {sys.executable} -m pip install py-spy"
    if sys.platform == "linux" and os.geteuid() != 0 and _traced_by_parents_alone():
        return "the right to look into processes: be root, or sysctl kernel.yama.ptrace_scope=0"
    return ""


def _traced_by_parents_alone() -> bool:
    try:
        return Path("/proc/sys/kernel/yama/ptrace_scope").read_text().strip() != "0"
    except OSError:
        return False


def record(processes: Mapping[str, int], directory: Path, seconds: int) -> None:
    """Look at ``processes`` (name and process id) for so long, and leave ``NAME.svg`` of each in ``directory``. Raises
    :class:`FlameFailed`."""
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        looking = []
        for name, pid in processes.items():
            out = directory / f"{name.replace(' ', '-')}.svg"
            command: list[str | Path] = [PY_SPY, "record", "--pid", str(pid), "--duration", str(seconds)]
            command += ["--rate", str(LOOKS_PER_S), "--output", str(out)]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            looking.append(stack.enter_context(process))
            stack.callback(process.kill)
        failed = [said for process in looking if (said := _ended(process, seconds + END_S))]
    if failed:
        raise FlameFailed("\n".join(failed))


def _ended(process: subprocess.Popen[str], patience_s: float) -> str:
    """What went wrong; empty when nothing did."""
    try:
        _, said = process.communicate(timeout=patience_s)
    except subprocess.TimeoutExpired:
        return f"py-spy did not end within {patience_s:g} s"
    return said.strip() or f"py-spy ended with {process.returncode}" if process.returncode else ""
