"""The lean client in C, compiled when it is needed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")


def compiled(to: Path) -> Path | None:
    """The program, or None where there is no compiler. Raises ``CalledProcessError`` when it does not compile."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    subprocess.run([compiler, "-O2", "-o", str(to), str(SOURCE)], check=True)
    return to
