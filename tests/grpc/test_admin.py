"""AdminService beyond what all fronts promise alike (tests/contract/test_administration.py)."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from holdfast.cluster import LocalCluster
from holdfast.v1 import admin_pb2 as pb
from holdfast.v1 import sessions_pb2 as spb
from tests.grpc.calling import Api, refused


@pytest.fixture
def operator(service: LocalCluster, channel: Any) -> Api:
    return Api(channel, service.operator_key)


async def test_a_change_sent_again_is_made_once_and_another_under_its_id_is_another(operator: Api) -> None:
    asked = pb.CreateTenantRequest(id="twice", request_id="one")
    made = await operator.admin("CreateTenant", asked)
    again = await refused(operator.admin("CreateTenant", asked))
    assert (again.status, again.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CONFLICT")
    assert made.tenant.keys[0].id in again.message, "which key to rotate, for its secret was lost"
    await operator.admin("SuspendTenant", pb.SuspendTenantRequest(tenant="twice", request_id="one"))
    shown = await operator.admin("GetTenant", pb.GetTenantRequest(tenant="twice"))
    assert shown.tenant.state == pb.TENANT_STATE_SUSPENDED
    first, again = [
        await operator.admin("ResumeTenant", pb.ResumeTenantRequest(tenant="twice", request_id="two")) for _ in range(2)
    ]
    assert first.tenant.version == again.tenant.version


async def test_a_lock_is_broken_and_a_session_ended_once_under_one_id(operator: Api, api: Api) -> None:
    await api.acquire("broken")
    asked = pb.BreakTenantLockRequest(tenant="default", name="broken", now=True, request_id="break")
    await operator.admin("BreakTenantLock", asked)
    following = await api.acquire("broken")
    await operator.admin("BreakTenantLock", asked)
    assert await api.held(following)
    asked.request_id = "break it again"
    await operator.admin("BreakTenantLock", asked)
    assert not await api.held(following)
    session = await api.sessions("Create", spb.CreateRequest(ttl=Duration(nanos=500_000_000)))
    end = pb.EndTenantSessionRequest(tenant="default", session_id=session.id, request_id="end")
    await operator.admin("EndTenantSession", end)
    async with asyncio.timeout(10):
        while session.id in [part.id for part in (await api.sessions("ListSessions", spb.ListSessionsRequest())).parts]:
            await asyncio.sleep(0.01)
    await operator.admin("EndTenantSession", end)
    end.request_id = "end it again"
    answer = await refused(operator.admin("EndTenantSession", end))
    assert answer.status == grpc.StatusCode.NOT_FOUND


async def test_pages_follow_one_another(operator: Api) -> None:
    for number in range(3):
        await operator.admin("CreateTenant", pb.CreateTenantRequest(id=f"page-{number}"))
    seen: list[str] = []
    token = ""
    while True:
        page = await operator.admin("ListTenants", pb.ListTenantsRequest(page_size=2, page_token=token))
        seen += [tenant.id for tenant in page.tenants]
        assert len(page.tenants) <= 2
        if not (token := page.next_page_token):
            break
    assert {"page-0", "page-1", "page-2", "default"} <= set(seen)
    assert seen == sorted(set(seen))
    first = await operator.admin("ListAuditRecords", pb.ListAuditRecordsRequest(page_size=1))
    second = await operator.admin(
        "ListAuditRecords", pb.ListAuditRecordsRequest(page_size=1, page_token=first.next_page_token)
    )
    assert second.records[0].sequence == first.records[0].sequence - 1
    for token in ("x", "-1", "²", "9" * 30):
        answer = await refused(operator.admin("ListAuditRecords", pb.ListAuditRecordsRequest(page_token=token)))
        assert answer.status == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_number_that_no_message_can_carry_is_invalid(operator: Api) -> None:
    for quotas in (pb.Quotas(ttl=Duration(seconds=2**63 - 1)), pb.Quotas(rate=2**64 - 1)):
        answer = await refused(operator.admin("UpdateTenant", pb.UpdateTenantRequest(tenant="default", quotas=quotas)))
        assert answer.status == grpc.StatusCode.INVALID_ARGUMENT
