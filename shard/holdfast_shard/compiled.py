"""The state machine's hot modules as extensions, made by mypyc from the very sources that stand here (ADR 7).

They are an equal, not another implementation: the sources run as they are where nothing was made, or where what was
made is of other sources. ``python -m holdfast_shard.compiling`` makes them.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Final

import holdfast.wire

_HERE: Final = Path(__file__).parent
_WIRE: Final = Path(holdfast.wire.__file__).parent
MODULES: Final = tuple(
    f"holdfast_shard.machine.{name}"
    for name in (
        "acquire",
        "answering",
        "entry",
        "expiry",
        "ledger",
        "operations",
        "roster",
        "rows",
        "timers",
    )
)
"""Where the profile of a busy node points: half of its time (loadtests/RESULTS.md)."""
PURE_VARIABLE: Final = "HOLDFAST_PURE_PYTHON"
"""Set to anything, a node runs the sources whatever was made."""
_SUFFIX: Final = EXTENSION_SUFFIXES[0]


def source_of(module: str) -> Path:
    return _HERE.joinpath(*module.split(".")[1:]).with_suffix(".py")


def directory() -> Path:
    """Where extensions of these sources belong, for this interpreter. Another source, another directory: what was made
    of sources that have changed since is never found."""
    digest = hashlib.sha256(f"{sys.implementation.cache_tag} {platform.machine()}".encode())
    # Constants of imported modules are compiled in.
    for path in (*map(source_of, MODULES), *sorted(_WIRE.glob("*.py"))):
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)} ".encode() + content)
    return home() / digest.hexdigest()[:16]


def home() -> Path:
    return Path(sys.prefix, "lib", "holdfast-compiled")


class _Finder(MetaPathFinder):
    def __init__(self, files: dict[str, Path]) -> None:
        self._files = files

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        file = self._files.get(fullname)
        if file is None:
            return None
        return spec_from_file_location(fullname, file, loader=ExtensionFileLoader(fullname, str(file)))


def prefer() -> bool:
    """Import the extensions from now on, if there are any; to be called before any of the modules is imported."""
    if os.environ.get(PURE_VARIABLE):
        return False
    assert not any(module in sys.modules for module in MODULES), "called before they are imported"
    made = directory()
    files = {
        ".".join(file.relative_to(made).parts).removesuffix(_SUFFIX): file
        for file in (made.rglob(f"*{_SUFFIX}") if made.is_dir() else ())
    }
    if not files.keys() >= set(MODULES):
        return False
    sys.meta_path.insert(0, _Finder(files))
    return True


def in_use() -> bool:
    """Whether this process runs them."""
    return any(isinstance(finder, _Finder) for finder in sys.meta_path)
