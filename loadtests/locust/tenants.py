"""Tenants that a load test makes for itself and removes, by the administrators' API over HTTP."""

from __future__ import annotations

import json
import secrets
import urllib.request
from dataclasses import dataclass
from typing import Any

TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class Made:
    tenant: str
    api_key: str


class Administration:
    """``host``: the service's HTTP address. ``operator_key`` may make tenants. Raises ``urllib.error.HTTPError``."""

    def __init__(self, host: str, operator_key: str) -> None:
        self._url = f"{host.rstrip('/')}/v1/admin"
        self._key = operator_key

    def make(self, count: int, plan: str, rate: int) -> list[Made]:
        """``rate``: operations per second of each, and at once after a rest; 0: what the plan says."""
        run = secrets.token_hex(4)
        quotas = {"rate": rate, "burst": rate} if rate else {}
        made = []
        for number in range(1, count + 1):
            tenant = f"load-{run}-{number}"
            told = self._ask({"type": "tenant.create", "id": tenant, "plan": plan, "quotas": quotas})
            made.append(Made(tenant, told["api_key"]))
        return made

    def remove(self, made: list[Made]) -> None:
        for one in made:
            self._ask({"type": "tenant.suspend", "tenant": one.tenant})
            self._ask({"type": "tenant.delete", "tenant": one.tenant})

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        head = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        asking = urllib.request.Request(self._url, json.dumps(request).encode(), head)
        with urllib.request.urlopen(asking, timeout=TIMEOUT_S) as answer:
            result: dict[str, Any] = json.load(answer)["result"]
            return result
