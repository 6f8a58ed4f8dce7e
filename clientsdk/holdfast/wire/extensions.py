"""Hot modules of a server as extensions, made by mypyc from the very sources that stand here (ADR 7).

They are an equal, not another implementation: the sources run as they are where nothing was made, or where what was
made is of other sources.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Final

PURE_VARIABLE: Final = "HOLDFAST_PURE_PYTHON"
"""Set to anything, servers run the sources whatever was made."""
WIRE: Final = Path(__file__).parent
_SUFFIX: Final = EXTENSION_SUFFIXES[0]


def home() -> Path:
    return Path(sys.prefix, "lib", "holdfast-compiled")


def directory(program: str, sources: Iterable[Path]) -> Path:
    """Where extensions of these sources belong, for this interpreter. Another source, another directory: what was made
    of sources that have changed since is never found."""
    digest = hashlib.sha256(f"{sys.implementation.cache_tag} {platform.machine()}".encode())
    # Constants of imported modules are compiled in.
    for path in (*sources, *sorted(WIRE.glob("*.py"))):
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)} ".encode() + content)
    return home() / f"{program}-{digest.hexdigest()[:16]}"


class _Finder(MetaPathFinder):
    def __init__(self, files: dict[str, Path]) -> None:
        self.files = files

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        file = self.files.get(fullname)
        if file is None:
            return None
        return spec_from_file_location(fullname, file, loader=ExtensionFileLoader(fullname, str(file)))


def prefer(modules: Iterable[str], made: Path) -> bool:
    """Import the extensions of ``modules`` from now on, if all are there; to be called before any of them is
    imported."""
    if os.environ.get(PURE_VARIABLE):
        return False
    wanted = set(modules)
    assert not wanted & sys.modules.keys(), "called before they are imported"
    files = {
        ".".join(file.relative_to(made).parts).removesuffix(_SUFFIX): file
        for file in (made.rglob(f"*{_SUFFIX}") if made.is_dir() else ())
    }
    if not files.keys() >= wanted:
        return False
    sys.meta_path.insert(0, _Finder(files))
    return True


def in_use(modules: Iterable[str]) -> bool:
    """Whether this process runs them."""
    wanted = set(modules)
    return any(isinstance(finder, _Finder) and finder.files.keys() >= wanted for finder in sys.meta_path)
