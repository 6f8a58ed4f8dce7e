"""The architecture's imports hold, and the pure parts are pure."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PURE = {"time", "random", "os", "socket", "asyncio", "logging", "threading", "datetime", "secrets", "uuid", "pathlib"}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            if node.module == "holdfast":
                yield from (f"holdfast.{alias.name}" for alias in node.names)
            else:
                yield node.module


def modules(*parts: str) -> list[Path]:
    return sorted((ROOT.joinpath(*parts)).rglob("*.py"))


def test_import_linter_keeps_the_layers() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("path", modules("shard", "holdfast_shard", "machine"), ids=lambda path: path.name)
def test_the_state_machine_has_no_clock_no_chance_and_no_io(path: Path) -> None:
    assert not PURE & {name.partition(".")[0] for name in imports(path)}


@pytest.mark.parametrize("path", modules("clientsdk", "holdfast", "core"), ids=lambda path: path.name)
def test_the_sdks_core_has_no_clock_and_no_io(path: Path) -> None:
    assert not (PURE - {"random"}) & {name.partition(".")[0] for name in imports(path)}


def test_only_the_engine_knows_pysyncobj() -> None:
    users = [
        path
        for root in ("clientsdk", "router", "shard")
        for path in modules(root)
        if any(name.partition(".")[0] == "pysyncobj" for name in imports(path))
    ]
    assert [path.relative_to(ROOT).as_posix() for path in users] == ["shard/holdfast_shard/consensus/engine.py"]


FRONTS = {
    "operations": ("holdfast.core", "holdfast.arguments", "holdfast.clock", "holdfast.errors"),
    "http": ("holdfast.errors",),
    "grpc": ("holdfast.v1", "holdfast.clock", "holdfast.errors"),
}
"""What parts of the router import of the SDK beside the wire: for callers of HTTP and gRPC it is the client."""


def test_the_router_imports_the_wire_and_its_fronts_the_core_of_the_sdk() -> None:
    root = ROOT / "router" / "holdfast_router"
    for path in modules("router"):
        allowed = ("holdfast_router", "holdfast.wire", *FRONTS.get(path.relative_to(root).parts[0], ()))
        for name in imports(path):
            if name.startswith("holdfast"):
                assert is_of(name, allowed), f"{path.name} imports {name}"


def is_of(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def test_the_shard_imports_only_the_wire_of_ours() -> None:
    for path in modules("shard"):
        for name in imports(path):
            if name.startswith("holdfast") and not name.startswith("holdfast_shard"):
                assert name.startswith("holdfast.wire"), f"{path.name} imports {name}"
