"""``python -m holdfast_shard.compiling``: make extensions of the hot modules, by mypyc; takes a C compiler.

Nothing is made when they are there already. Those of other sources are removed. Without them a node runs the sources.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import holdfast.wire

from . import compiled

EXIT_FAILED = 1


def make() -> Path:
    """Returns their directory. Raises ``ImportError`` without mypy or setuptools, and what these raise."""
    made = compiled.directory()
    if made.is_dir():
        return made
    compiled.home().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=compiled.home(), prefix="making-") as scratch:
        _build(Path(scratch))
        # In one step: whoever looks for it meanwhile finds all of it, or nothing.
        try:
            Path(scratch, "lib").rename(made)
        except OSError:
            if not made.is_dir():  # somebody else made it meanwhile
                raise
    for other in compiled.home().iterdir():
        if other != made and not other.name.startswith("making-"):
            shutil.rmtree(other, ignore_errors=True)
    return made


def _build(scratch: Path) -> None:
    # Extras that only who compiles has.
    from mypyc.build import mypycify  # noqa: PLC0415
    from setuptools import Distribution  # noqa: PLC0415
    from setuptools.command.build_ext import build_ext  # noqa: PLC0415

    os.environ["MYPYPATH"] = str(Path(holdfast.wire.__file__).parents[2])
    sources = [str(compiled.source_of(module)) for module in compiled.MODULES]
    # Types were checked before; here they only say what to make.
    options = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent", "--cache-dir=" + os.devnull]
    extensions = mypycify([*options, *sources], opt_level="2", debug_level="0", target_dir=str(scratch / "c"))
    command = build_ext(Distribution({"name": "holdfast-compiled", "ext_modules": extensions}))
    command.build_lib, command.build_temp = str(scratch / "lib"), str(scratch / "temp")
    command.parallel = os.cpu_count()
    command.ensure_finalized()
    command.run()


def main() -> int:
    try:
        made = make()
    except ImportError as error:
        print(f"{error.name} is missing: pip install 'holdfast[compiled]'", file=sys.stderr)
        return EXIT_FAILED
    except Exception as error:  # noqa: BLE001 - compilers and linkers fail in many ways; all mean the same
        print(f"not compiled, nodes run the sources: {error}", file=sys.stderr)
        return EXIT_FAILED
    print(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
