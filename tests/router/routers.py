"""Routers in the test's own loop before a node that is a process: their fronts can be asked directly."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec

from holdfast.wire.tenants import KeyRole
from holdfast_router.formation import read_formation
from holdfast_router.operations import Caller
from holdfast_router.process import Router
from tests.node.processes import NodeProcess, free_addresses, run
from tests.tenants import key_of, key_text, tenant_of

READER, LOCKER, PREFIXED, OTHER = (key_text(name) for name in ("reader", "locker", "prefixed", "other"))


class Node:
    """One node with two lock groups; keys of every role for tenant 1, and a tenant 2."""

    def __init__(self, root: Path) -> None:
        (address,) = free_addresses(1)
        formed = json.loads(
            run("form", "--nodes", address, "--groups", "2", "--replicas", "1", "--out", str(root)).stdout
        )
        self.key: str = formed["api_key"]
        self.operator_key: str = formed["operator_key"]
        self.root = root
        for path in (root / "formation.json", root / "node-1" / "formation.json"):
            formation: dict[str, Any] = json.loads(path.read_text())
            (first,) = [tenant for tenant in formation["tenants"] if tenant[0] == 1]
            first[7] += [
                msgspec.to_builtins(key_of(READER, KeyRole.READ, name="reader")),
                msgspec.to_builtins(key_of(LOCKER, KeyRole.LOCKS, name="locker")),
                msgspec.to_builtins(key_of(PREFIXED, KeyRole.ADMIN, "mine/", name="prefixed")),
            ]
            formation["tenants"].append(msgspec.to_builtins(tenant_of(2, key_of(OTHER))))
            path.write_text(json.dumps(formation))
        self.process = NodeProcess(root / "node-1")

    async def router(self) -> Router:
        """Another router before it, ready to serve. To be closed by its maker."""
        router = Router(read_formation(self.root / "formation.json"))
        async with asyncio.timeout(20):
            while not router.ready:
                await asyncio.sleep(0.01)
        return router

    def caller(self, router: Router, key: str = "", request: bytes = b"") -> Caller:
        return router.operations.caller(key or self.key, "127.0.0.1", request)
