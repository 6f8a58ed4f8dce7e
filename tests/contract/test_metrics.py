"""Metrics: what the router counted, for the operator's eyes alone."""

from __future__ import annotations

import asyncio

import httpx
from prometheus_client.parser import text_string_to_metric_families

from holdfast.cluster import LocalCluster

from .conftest import client_of


async def metrics(cluster: LocalCluster) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    async with client_of(cluster, cluster.operator_key) as operator:
        answer = await operator.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    families = text_string_to_metric_families(answer.text)
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def admitted(tenant: str, outcome: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return "holdfast_admission_operations_total", frozenset({"tenant": tenant, "outcome": outcome}.items())


async def test_operations_are_counted_by_tenant_and_outcome(cluster: LocalCluster) -> None:
    async with client_of(cluster, cluster.operator_key) as operator:
        asked = {"type": "tenant.create", "id": "counted", "quotas": {"rate": 5, "burst": 5}}
        key = (await operator.post("/v1/admin", json=asked)).json()["result"]["api_key"]
    async with client_of(cluster, key) as counted:
        async with asyncio.timeout(10):
            while (await counted.get("/v1/locks/a")).status_code == 401:  # the router hears of it a little later
                await asyncio.sleep(0.02)
        before = await metrics(cluster)
        answers = await asyncio.gather(*(counted.get("/v1/locks/a") for _ in range(12)))
    after = await metrics(cluster)
    for outcome, status in (("admitted", 200), ("rate", 429)):
        found = after[admitted("counted", outcome)] - before[admitted("counted", outcome)]
        assert found == sum(answer.status_code == status for answer in answers)
        assert found
    group = frozenset({"group": "1"}.items())
    assert (after["holdfast_group_led", group], after["holdfast_group_breaker_open", group]) == (1, 0)
    assert after["holdfast_meta_fresh", frozenset()] == 1


async def test_a_tenant_sees_no_metrics(http: httpx.AsyncClient, cluster: LocalCluster) -> None:
    answer = await http.get("/metrics")
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    async with httpx.AsyncClient(base_url=cluster.http_url) as nobody:
        assert (await nobody.get("/metrics")).status_code == 401


async def test_of_a_deleted_tenant_the_totals_alone_remain(cluster: LocalCluster) -> None:
    async with client_of(cluster, cluster.operator_key) as operator:
        made = (await operator.post("/v1/admin", json={"type": "tenant.create", "id": "passing"})).json()["result"]
        async with client_of(cluster, made["api_key"]) as passing, asyncio.timeout(10):
            while (await passing.get("/v1/locks/a")).status_code != 200:
                await asyncio.sleep(0.02)
        assert (await metrics(cluster))[admitted("passing", "admitted")] == 1
        for change in ("suspend", "delete"):
            answer = await operator.post("/v1/admin", json={"type": f"tenant.{change}", "tenant": "passing"})
            assert answer.status_code == 200, answer.text
    assert admitted("passing", "admitted") not in await metrics(cluster)
