"""Every case of the table, through every front."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

import holdfast
from holdfast.cluster import LocalCluster

from .cases import CASES, Case
from .frame_front import Frames
from .fronts import Failed, Front, Http, Sdk
from .grpc_front import Grpc

FRONTS = ("SDK", "frame stream", "gRPC", "HTTP, names in the path", "HTTP, names in the body")


@pytest.fixture(params=FRONTS)
async def front(request: pytest.FixtureRequest, cluster: LocalCluster) -> AsyncIterator[tuple[str, Front]]:
    if request.param == "SDK":
        found: Front = Sdk(await holdfast.connect(cluster.url, cluster.api_key))
    elif request.param == "frame stream":
        found = await Frames.open("{}:{}".format(*cluster.address), cluster.api_key)
    elif request.param == "gRPC":
        found = Grpc(cluster.grpc_address, cluster.api_key)
    else:
        found = Http(cluster.http_url, cluster.api_key, in_path="path" in request.param)
    yield request.param, found
    await found.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
async def test_every_front_keeps_the_contract(front: tuple[str, Front], case: Case) -> None:
    through, player = front
    prefix = f"{through}/{case.id}/"
    found: list[object] = []
    for number, step in enumerate(case.steps):
        of = found[step.of] if step.of is not None else None
        under = found[step.under] if step.under is not None else None
        told: dict[str, Any] = {}
        code, thing = "", None
        try:
            thing, told = await player.play(step, prefix, of, under)
        except Failed as failed:
            code = {"invalid-name": "invalid-argument"}.get(str(failed), str(failed))
        assert code == step.code, f"step {number}: {step}"
        found.append(thing)
        for field, value in step.told.items():
            if isinstance(value, tuple):
                low, high = value
                assert low <= told[field] <= high, f"step {number}: {field}"
            else:
                assert told[field] == value, f"step {number}: {field}"
