"""How many requests of administrators are under way on a router, whichever front they came by."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from holdfast.errors import Overloaded
from holdfast.wire.administration import AuditList, ListAudit
from holdfast.wire.changes import AuditFilter, AuditPage
from holdfast.wire.messages import Beat
from holdfast.wire.tenants import OPERATOR, KeyRole, Principal
from holdfast_router import administration
from holdfast_router.administration import Administration
from holdfast_router.admission.pace import Pace
from holdfast_router.changing import Changes
from holdfast_router.directory import Directory
from holdfast_router.inspecting import Inspection
from tests.tenants import meta_of

TENANT, RULER = (Principal(tenant, "key", KeyRole.ADMIN) for tenant in (1, OPERATOR))


class Slow:
    """In the place of the meta group, which answers when it is let."""

    def __init__(self) -> None:
        self.let = asyncio.Event()

    async def page(self, tenant: int, below: int, limit: int, wanted: AuditFilter) -> AuditPage:
        await self.let.wait()
        return AuditPage([], 0)


async def test_so_many_requests_and_room_again_and_always_for_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(administration, "REQUESTS_MAX", 2)
    directory, slow = Directory(lambda: 0.0), Slow()
    directory.adopt(meta_of())
    directory.beat(Beat(1, 1))
    pace = Pace(directory.quotas, lambda: 0.0)
    asked = Administration(directory, cast(Changes, slow), cast(Inspection, None), pace)
    under_way = [asyncio.ensure_future(asked.execute(TENANT, ListAudit(), "here")) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded) as caught:
        await asked.execute(TENANT, ListAudit(), "here")
    assert caught.value.retry_after_ms > 0
    under_way.append(asyncio.ensure_future(asked.execute(RULER, ListAudit(), "here")))
    under_way.pop(0).cancel()
    await asyncio.sleep(0)
    under_way.pop(0).cancel()
    await asyncio.sleep(0)
    under_way.append(asyncio.ensure_future(asked.execute(TENANT, ListAudit(), "here")))
    slow.let.set()
    assert await asyncio.gather(*under_way) == [AuditList([], 0)] * 2
