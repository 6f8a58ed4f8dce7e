"""Makes extensions of a server's hot modules, by mypyc; takes a C compiler.

Nothing is made when they are there already. Those of other sources are removed. Without them a server runs the sources.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from .extensions import WIRE

EXIT_FAILED: Final = 1


def make(made: Path, sources: Sequence[Path]) -> Path:
    """Into ``made``, as :func:`extensions.directory` names it; returned again. Raises ``ImportError`` without mypy or
    setuptools, and what these raise."""
    if made.is_dir():
        return made
    home = made.parent
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home, prefix="making-") as scratch:
        _build(Path(scratch), sources)
        # In one step: whoever looks for it meanwhile finds all of it, or nothing.
        try:
            Path(scratch, "lib").rename(made)
        except OSError:
            if not made.is_dir():  # somebody else made it meanwhile
                raise
    program = made.name.partition("-")[0]
    for other in home.glob(f"{program}-*"):
        if other != made:
            shutil.rmtree(other, ignore_errors=True)
    return made


def _build(scratch: Path, sources: Sequence[Path]) -> None:
    # Extras that only who compiles has.
    from mypyc.build import mypycify  # noqa: PLC0415
    from setuptools import Distribution  # noqa: PLC0415
    from setuptools.command.build_ext import build_ext  # noqa: PLC0415

    os.environ["MYPYPATH"] = str(WIRE.parents[1])
    # Types were checked before; here they only say what to make.
    options = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent", "--cache-dir=" + os.devnull]
    extensions = mypycify([*options, *map(str, sources)], opt_level="2", debug_level="0", target_dir=str(scratch / "c"))
    command = build_ext(Distribution({"name": "holdfast-compiled", "ext_modules": extensions}))
    command.build_lib, command.build_temp = str(scratch / "lib"), str(scratch / "temp")
    command.parallel = os.cpu_count()
    command.ensure_finalized()
    command.run()


def report(make_them: Callable[[], Path], servers: str) -> int:
    """Make them, and say where they are, or why ``servers`` go without."""
    try:
        made = make_them()
    except ImportError as error:
        print(f"{error.name} is missing: pip install 'holdfast[compiled]'", file=sys.stderr)
        return EXIT_FAILED
    except Exception as error:  # noqa: BLE001 - compilers and linkers fail in many ways; all mean the same
        print(f"not compiled, {servers} run the sources: {error}", file=sys.stderr)
        return EXIT_FAILED
    print(made)
    return 0
