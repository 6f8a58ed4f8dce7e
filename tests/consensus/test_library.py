"""The engine rests on names inside PySyncObj 0.3.17. These tests fail when one of them is not what was audited."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import socket
from pathlib import Path

import pysyncobj
import pytest
from pysyncobj import SyncObj, syncobj

import holdfast_shard.consensus as consensus
from holdfast_shard.consensus import UnsupportedEngine, engine
from tests.consensus.cluster import Cluster

PACKAGE = Path(inspect.getfile(consensus)).parent
MODULES = {module.name: (PACKAGE / f"{module.name}.py").read_text() for module in pkgutil.iter_modules([str(PACKAGE)])}
LIBRARY = inspect.getsource(syncobj)


def test_the_socket_module_is_as_it_was() -> None:
    assert socket.inet_ntop(socket.AF_INET, bytes([127, 0, 0, 1])) == "127.0.0.1"


def test_another_version_is_refused() -> None:
    engine.require_supported()
    for version in ("0.3.16", "0.3.18", "0.4.0"):
        with pytest.raises(UnsupportedEngine, match=version):
            engine.require_supported(version)


@pytest.mark.parametrize("name", [*engine.OVERRIDDEN, *engine.USED_METHODS])
def test_method_exists(name: str) -> None:
    assert callable(getattr(SyncObj, name))


@pytest.mark.parametrize("name", engine.USED_ATTRIBUTES)
def test_attribute_is_set_by_the_constructor(name: str) -> None:
    node = Cluster(1).nodes[1].host.replicas[1].engine
    assert hasattr(node, name)
    assert "self." + name.removeprefix("_SyncObj") in inspect.getsource(SyncObj)


@pytest.mark.parametrize("name", engine.GLOBALS)
def test_global_is_read_at_run_time(name: str) -> None:
    assert hasattr(syncobj, name)
    assert re.search(rf"\b{name}\(", LIBRARY)


@pytest.mark.parametrize("name", engine.OVERRIDDEN)
def test_what_is_overridden_is_ours(name: str) -> None:
    assert name in vars(engine.Engine)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_each_replacement_names_what_it_replaces(name: str) -> None:
    module = importlib.import_module(f"holdfast_shard.consensus.{name}")
    for replaced in getattr(module, "REPLACES", ()):
        plain = replaced.removeprefix("_SyncObj")
        assert hasattr(syncobj, plain) or plain in LIBRARY, f"{name} replaces {replaced}, which does not exist"


def test_nothing_else_touches_a_mangled_name() -> None:
    listed = {*engine.OVERRIDDEN, *engine.USED_METHODS, *engine.USED_ATTRIBUTES}
    for name, source in MODULES.items():
        tree = ast.parse(source)
        used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        mangled = {n for n in used | defined if n.startswith("_SyncObj")}
        assert mangled <= (listed if name == "engine" else set()), name


def test_only_the_engine_imports_the_library() -> None:
    importers = {name for name, source in MODULES.items() if re.search(r"^(from|import) pysyncobj", source, re.M)}
    assert importers == {"engine"}


def test_the_library_opens_nothing() -> None:
    replica = Cluster(1).nodes[1].host.replicas[1]
    assert isinstance(replica.engine._poller, engine._NoPoller)
    assert not hasattr(replica.engine, "_SyncObj__pipeNotifier")
    assert replica.engine._SyncObj__thread is None
    assert pysyncobj.VERSION == engine.SUPPORTED if hasattr(pysyncobj, "VERSION") else True
