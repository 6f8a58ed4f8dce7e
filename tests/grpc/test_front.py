"""The gRPC front itself: who may call, what errors say, health, reflection, limits, and bytes that are no messages."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast import errors
from holdfast.cluster import LocalCluster
from holdfast.v1 import admin_pb2 as apb
from holdfast.v1 import locks_pb2 as pb
from holdfast.v1 import sessions_pb2 as spb
from holdfast.v1.types_pb2 import Grant, GrantRef
from holdfast.wire.errors import Throttled
from holdfast.wire.messages import MetaRecord
from holdfast_router.directory import Directory
from holdfast_router.grpc import GrpcFront, calls
from holdfast_router.grpc.calls import FIRST_MESSAGE_S, address_of
from holdfast_router.grpc.server import MESSAGE_BYTES_MAX, METADATA_BYTES_MAX, STREAMS_PER_CONNECTION_MAX
from holdfast_router.operations import PROBLEMS, Caller, Operations
from holdfast_router.operations.requests import Acquire, Done, Get, LockState, Release, Watch
from holdfast_router.operations.requests import Grant as Granted
from tests.grpc.calling import PATIENCE_S, Api, Refusal, refused
from tests.tenants import OPERATOR_KEY, TENANT_KEY, key_of, meta_of, tenant_of

SERVICES = ("holdfast.v1.LockService", "holdfast.v1.SessionService", "holdfast.v1.AdminService")
RPCS = [
    (service, method.name, method.client_streaming, method.server_streaming)
    for file in (pb, spb, apb)
    for service, descriptor in file.DESCRIPTOR.services_by_name.items()
    for method in descriptor.methods
]


def identity(data: bytes) -> bytes:
    return data


async def raw(channel: Any, path: str, data: bytes, metadata: Any, *, streams: bool = False) -> grpc.StatusCode:
    """The status that any bytes end with, as the request of any method."""
    try:
        if streams:
            call = channel.stream_stream(path, identity, identity)(metadata=metadata, timeout=3)
            await call.write(data)  # and no end: written after the answer, it would be an error of the library's own
        else:
            call = channel.unary_stream(path, identity, identity)(data, metadata=metadata, timeout=3)
        async for _ in call:
            pass
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


# Who may call.


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("authorization", ""),),
        (("authorization", "Bearer"),),
        (("authorization", "Bearer hf_nobody_nothing"),),
        (("authorization", "Basic aGY6eA=="),),
    ],
)
async def test_without_a_good_key_nothing_is_done(near: Any, metadata: Any) -> None:
    """By a front that counts no failures: so many wrong keys of one address are refused for that."""
    for service, rpc, client_streaming, _ in RPCS:
        path = f"/holdfast.v1.{service}/{rpc}"
        status = await raw(near, path, b"", metadata, streams=client_streaming)
        assert status == grpc.StatusCode.UNAUTHENTICATED, rpc


async def test_a_stream_that_says_nothing_is_refused_as_well(channel: Any) -> None:
    call = channel.stream_stream("/holdfast.v1.SessionService/Attach", identity, identity)(timeout=FIRST_MESSAGE_S + 5)
    assert await call.code() == grpc.StatusCode.UNAUTHENTICATED


async def test_strangers_that_say_nothing_take_few_of_a_routers_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "STRANGERS_PER_ADDRESS_MAX", 1)
    monkeypatch.setattr(calls, "FIRST_MESSAGE_S", PATIENCE_S)
    front = Front()
    await front.front.listen("127.0.0.1", 0, None)
    async with grpc.aio.insecure_channel(front.front.address) as channel:
        attach = channel.stream_stream("/holdfast.v1.SessionService/Attach", identity, identity)
        strangers = [attach(timeout=PATIENCE_S) for _ in range(2)]
        codes = [asyncio.ensure_future(stranger.code()) for stranger in strangers]
        refused_at_once, kept = await asyncio.wait(codes, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE_S / 2)
        assert [each.result() for each in refused_at_once] == [grpc.StatusCode.UNAUTHENTICATED]
        assert len(kept) == 1
        for stranger in strangers:
            await stranger.done_writing()
        assert [await code for code in kept] == [grpc.StatusCode.UNAUTHENTICATED]
    await front.front.close()


async def test_two_keys_are_none(api: Api, channel: Any) -> None:
    status = await raw(channel, "/holdfast.v1.LockService/Get", b"\n\x01a", api.metadata * 2)
    assert status == grpc.StatusCode.UNAUTHENTICATED


async def test_the_operators_key_takes_no_locks(service: LocalCluster, channel: Any) -> None:
    answer = await refused(Api(channel, service.operator_key).acquire("a"))
    assert (answer.status, answer.reason) == (grpc.StatusCode.PERMISSION_DENIED, "FORBIDDEN")


# Errors, with operations that fail as they are told to.


class Failing:
    """Stands in for the operations of a router."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self.error: BaseException | None = None
        self.callers: list[Caller] = []

    def caller(self, key: str, address: str = "", request: bytes = b"") -> Caller:
        return Caller(self._directory.authenticate(key), 0.0, address, request)

    async def acquire(self, caller: Caller, asked: Acquire) -> Granted:
        self.callers.append(caller)
        if self.error is not None:
            raise self.error
        await asyncio.Event().wait()
        raise AssertionError

    async def release(self, caller: Caller, asked: Release) -> Done:
        self.callers.append(caller)
        await asyncio.Event().wait()
        raise AssertionError

    async def get(self, caller: Caller, asked: Get) -> LockState:
        return LockState(name=asked.name, held=False, holder_count=0, waiters=0, capacity=0, closed_ms=0, holders=[])

    async def watch(self, caller: Caller, asked: Watch) -> AsyncIterator[LockState]:
        return self._shown(caller, asked)

    async def _shown(self, caller: Caller, asked: Watch) -> AsyncIterator[LockState]:
        yield await self.get(caller, Get(name=asked.name or ""))
        await asyncio.Event().wait()


class Front:
    def __init__(self) -> None:
        self.directory = Directory(lambda: 0.0)
        self.directory.adopt(meta_of())
        self.failing = Failing(self.directory)
        self.is_ready = True
        self.front = GrpcFront(cast(Operations, self.failing), self.directory, lambda: self.is_ready)

    def hears(self, record: MetaRecord) -> None:
        assert self.directory.adopt(record)


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    front = Front()
    await front.front.listen("127.0.0.1", 0, None)
    yield front
    await front.front.close()


@pytest.fixture
async def near(front: Front) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(front.front.address) as channel:
        yield channel


async def test_every_error_has_its_status_and_its_reason(front: Front, near: Any) -> None:
    api = Api(near, TENANT_KEY)
    for kind, problem in PROBLEMS.items():
        error = kind.__new__(kind)
        Exception.__init__(error, "so it is")
        vars(error).update(retry_after_ms=0, quota="", limit=0, which="")
        front.failing.error = error
        answer = await refused(api.acquire("a"))
        assert answer.status == grpc.StatusCode[problem.grpc]
        assert answer.reason == problem.slug.upper().replace("-", "_")
        assert answer.message == "so it is"
        assert answer.details["ErrorInfo"].domain == "holdfast"
        assert answer.details["ErrorInfo"].metadata["definite"] == ("true" if problem.definite else "false")


def test_the_page_lists_every_reason_beside_its_status() -> None:
    page = (Path(__file__).parents[2] / "docs" / "grpc.md").read_text()
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| (.*) \|$", page, re.MULTILINE))
    for problem in PROBLEMS.values():
        if problem.slug != "idempotency-key-reused":  # HTTP's alone
            assert f"`{problem.slug.upper().replace('-', '_')}`" in rows[problem.grpc]


async def test_a_refusal_says_when_to_come_again_and_which_quota(front: Front, near: Any) -> None:
    api = Api(near, TENANT_KEY)
    front.failing.error = Throttled("slower", 1250, "rate", 100)
    throttled = await refused(api.acquire("a"))
    assert throttled.status == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert throttled.details["RetryInfo"].retry_delay == Duration(seconds=1, nanos=250_000_000)
    (violation,) = throttled.details["QuotaFailure"].violations
    assert (violation.subject, violation.description) == ("quota:rate", "limit 100")
    front.failing.error = errors.QuotaExceeded("locks held", 7)
    exceeded = await refused(api.acquire("a"))
    assert exceeded.details["QuotaFailure"].violations[0].subject == "quota:locks held"
    assert "RetryInfo" not in exceeded.details


async def test_what_fails_unforeseen_is_internal_and_tells_nothing(front: Front, near: Any) -> None:
    front.failing.error = ZeroDivisionError("a secret of ours")
    answer = await refused(Api(near, TENANT_KEY).acquire("a"))
    assert (answer.status, "secret" in answer.message) == (grpc.StatusCode.INTERNAL, False)


async def test_calls_of_a_revoked_key_end_at_once(front: Front, near: Any) -> None:
    api = Api(near, TENANT_KEY)
    waiting = asyncio.ensure_future(api.acquire("a"))
    stealing = asyncio.ensure_future(api.acquire("a", steal=True))
    releasing = asyncio.ensure_future(api.release(Grant(lock_id="hf1_a")))
    watch = api.locks("Watch", pb.WatchRequest(name="a"))
    await watch.read()
    async with asyncio.timeout(5):
        while len(front.failing.callers) < 3:
            await asyncio.sleep(0)
    operator, tenant = tenant_of(0, key_of(OPERATOR_KEY)), tenant_of(1, version=2)
    front.hears(meta_of(operator, tenant, version=2))
    for call, definite in (waiting, "true"), (watch.read(), "true"), (stealing, "false"), (releasing, "false"):
        async with asyncio.timeout(5):
            answer = await refused(call)
        assert answer.status == grpc.StatusCode.UNAUTHENTICATED
        assert answer.details["ErrorInfo"].metadata["definite"] == definite


async def test_callers_are_known_by_their_address(front: Front, near: Any) -> None:
    front.failing.error = errors.Unavailable("later")
    await refused(Api(near, TENANT_KEY).acquire("a"))
    assert front.failing.callers[0].address == "127.0.0.1"
    assert address_of("ipv6:%5B::1%5D:5000") == "::1"
    assert address_of("unix:/run/holdfast") == "/run/holdfast"


# Health and reflection.


async def health(channel: Any, service: str = "") -> int:
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check", HealthCheckRequest.SerializeToString, HealthCheckResponse.FromString
    )
    answer: HealthCheckResponse = await check(HealthCheckRequest(service=service))
    return int(answer.status)


async def test_the_health_service_needs_no_key_and_follows_the_router(front: Front, near: Any) -> None:
    serving, not_serving = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
    for service in ("", *SERVICES):
        assert await health(near, service) == serving
    assert (await refused(health(near, "no.such.Service"))).status == grpc.StatusCode.NOT_FOUND
    watch = near.unary_stream(
        "/grpc.health.v1.Health/Watch", HealthCheckRequest.SerializeToString, HealthCheckResponse.FromString
    )(HealthCheckRequest(), timeout=10)
    assert (await watch.read()).status == serving
    front.is_ready = False
    assert (await watch.read()).status == not_serving
    assert await health(near) == not_serving


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_lists_the_services_and_shows_their_files(channel: Any, version: str) -> None:
    call = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        ServerReflectionRequest.SerializeToString,
        ServerReflectionResponse.FromString,
    )(timeout=10)
    await call.write(ServerReflectionRequest(list_services=""))
    listed = {service.name for service in (await call.read()).list_services_response.service}
    assert listed >= {*SERVICES, "grpc.health.v1.Health", f"grpc.reflection.{version}.ServerReflection"}
    rpcs: set[tuple[str, str]] = set()
    for service in SERVICES:
        await call.write(ServerReflectionRequest(file_containing_symbol=service))
        for data in (await call.read()).file_descriptor_response.file_descriptor_proto:
            file = FileDescriptorProto.FromString(data)
            rpcs |= {(found.name, method.name) for found in file.service for method in found.method}
    assert rpcs == {(service, rpc) for service, rpc, _, _ in RPCS}
    await call.done_writing()


# Limits.


async def test_a_message_of_more_than_its_limit_is_refused_and_one_below_is_read(api: Api) -> None:
    long = await refused(api.locks("Get", pb.GetRequest(name="x" * MESSAGE_BYTES_MAX)))
    assert long.status == grpc.StatusCode.RESOURCE_EXHAUSTED
    read = await refused(api.locks("Get", pb.GetRequest(name="x" * (MESSAGE_BYTES_MAX - 100))))
    assert read.status == grpc.StatusCode.INVALID_ARGUMENT


async def test_metadata_of_more_than_its_limit_is_refused(api: Api, channel: Any) -> None:
    much = (*api.metadata, ("x-much", "x" * METADATA_BYTES_MAX))
    status = await raw(channel, "/holdfast.v1.LockService/Get", b"\n\x01a", much)
    assert status == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_what_is_compressed_is_refused(service: LocalCluster) -> None:
    async with grpc.aio.insecure_channel(service.grpc_address, compression=grpc.Compression.Gzip) as channel:
        answer = await refused(Api(channel, service.api_key).locks("Get", pb.GetRequest(name="x" * 500)))
    assert answer.status == grpc.StatusCode.UNIMPLEMENTED


async def test_a_connection_has_a_bounded_number_of_calls_under_way(front: Front, near: Any) -> None:
    """Those beyond wait on the caller's side until others have ended."""
    api = Api(near, TENANT_KEY)
    calls = [asyncio.ensure_future(api.acquire("a")) for _ in range(STREAMS_PER_CONNECTION_MAX + 20)]
    while len(front.failing.callers) < STREAMS_PER_CONNECTION_MAX:
        await asyncio.sleep(0.01)
    await health_is_not_answered(near)
    assert len(front.failing.callers) == STREAMS_PER_CONNECTION_MAX
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


async def health_is_not_answered(channel: Any) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(health(channel), 0.2)


# Bytes that are no messages.


@pytest.mark.parametrize(("owner", "rpc", "client_streaming", "server_streaming"), RPCS)
async def test_bytes_that_are_no_message_are_invalid(
    api: Api, channel: Any, owner: str, rpc: str, client_streaming: bool, server_streaming: bool
) -> None:
    for data in (b"\xff", b"\x0a\xff", b"\x00" * 9, bytes(range(256))):
        status = await raw(channel, f"/holdfast.v1.{owner}/{rpc}", data, api.metadata, streams=client_streaming)
        assert status == grpc.StatusCode.INVALID_ARGUMENT, data


async def test_the_standard_services_take_no_nonsense_either(channel: Any) -> None:
    for path, streams in (
        ("/grpc.health.v1.Health/Check", False),
        ("/grpc.health.v1.Health/Watch", False),
        ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", True),
    ):
        assert await raw(channel, path, b"\x0a\xff", (), streams=streams) == grpc.StatusCode.INVALID_ARGUMENT
    assert await raw(channel, "/holdfast.v1.LockService/Nothing", b"", ()) == grpc.StatusCode.UNIMPLEMENTED


EXPECTED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,  # of a watch, or of a wait that is longer than the call
}

TEXTS = st.one_of(st.text(max_size=20), st.sampled_from(["", "a", "\x00", "{", "hf1_x", "hfs1_x", "x" * 600]))
DURATIONS = st.one_of(
    st.none(),
    st.builds(Duration, seconds=st.integers(-(2**63), 2**63 - 1), nanos=st.integers(-(2**31), 2**31 - 1)),
    st.builds(Duration, seconds=st.integers(0, 3)),
)
MOMENTS = st.one_of(
    st.none(),
    st.builds(Timestamp, seconds=st.integers(-(2**63), 2**63 - 1), nanos=st.integers(-(2**31), 2**31 - 1)),
)
NUMBERS = st.one_of(st.integers(0, 3), st.integers(0, 2**32 - 1))
TOKENS = st.one_of(st.integers(0, 3), st.integers(0, 2**64 - 1))
GRANTS = st.one_of(st.none(), st.builds(GrantRef, lock_id=TEXTS, name=TEXTS, token=TOKENS))
ACQUIRES = st.builds(
    pb.AcquireRequest, name=TEXTS, ttl=DURATIONS, wait=DURATIONS, mode=st.integers(0, 9), permits=NUMBERS,
    capacity=NUMBERS, metadata=TEXTS, lock_delay=DURATIONS, session=TEXTS, steal=st.booleans(), reason=TEXTS,
    now=st.booleans(), request_id=TEXTS,
)  # fmt: skip
TENANTS = st.sampled_from(["", "default", "operator", "none", "A b", "\x00"])
QUOTAS = st.one_of(
    st.none(), st.builds(apb.Quotas, rate=TOKENS, held=TOKENS, ttl=DURATIONS), st.builds(apb.Quotas, burst=NUMBERS)
)
ADMIN_MESSAGES = st.one_of(
    st.tuples(st.just("CreateTenant"), st.builds(
        apb.CreateTenantRequest, id=TEXTS, display_name=TEXTS, plan=TEXTS, weight=NUMBERS, quotas=QUOTAS,
        request_id=TEXTS)),
    st.tuples(st.just("UpdateTenant"), st.builds(
        apb.UpdateTenantRequest, tenant=TENANTS, plan=TEXTS, weight=NUMBERS, quotas=QUOTAS, version=TOKENS)),
    st.tuples(st.just("ListTenants"), st.builds(apb.ListTenantsRequest, page_size=NUMBERS, page_token=TEXTS)),
    st.tuples(st.just("GetTenant"), st.builds(apb.GetTenantRequest, tenant=TENANTS)),
    st.tuples(st.just("CreateKey"), st.builds(
        apb.CreateKeyRequest, tenant=TENANTS, name=TEXTS, role=st.integers(0, 9), prefix=TEXTS, request_id=TEXTS)),
    st.tuples(st.just("RotateKey"), st.builds(apb.RotateKeyRequest, key=TEXTS, request_id=TEXTS)),
    st.tuples(st.just("RevokeKey"), st.builds(apb.RevokeKeyRequest, key=TEXTS)),
    st.tuples(st.just("ListTenantLocks"), st.builds(
        apb.ListTenantLocksRequest, tenant=TENANTS, prefix=TEXTS, page_size=NUMBERS, page_token=TEXTS)),
    st.tuples(st.just("GetTenantLock"), st.builds(apb.GetTenantLockRequest, tenant=TENANTS, name=TEXTS)),
    st.tuples(st.just("BreakTenantLock"), st.builds(
        apb.BreakTenantLockRequest, tenant=TENANTS, name=TEXTS, token=TOKENS, reason=TEXTS, now=st.booleans())),
    st.tuples(st.just("ListTenantSessions"), st.builds(
        apb.ListTenantSessionsRequest, tenant=TENANTS, page_size=NUMBERS, page_token=TEXTS)),
    st.tuples(st.just("EndTenantSession"), st.builds(
        apb.EndTenantSessionRequest, tenant=TENANTS, session_id=st.sampled_from(["", "0" * 32, "x" * 32]))),
    st.tuples(st.just("ListAuditRecords"), st.builds(
        apb.ListAuditRecordsRequest, page_size=NUMBERS,
        page_token=st.one_of(TEXTS, st.integers(-1, 10**21).map(str)), tenant=TENANTS, action=TEXTS, target=TEXTS,
        key=TEXTS, since=MOMENTS, until=MOMENTS)),
)  # fmt: skip
MESSAGES = st.one_of(
    st.tuples(st.just("Acquire"), ACQUIRES),
    st.tuples(st.just("Release"), st.builds(pb.ReleaseRequest, grant=GRANTS)),
    st.tuples(st.just("Renew"), st.builds(pb.RenewRequest, grant=GRANTS, ttl=DURATIONS)),
    st.tuples(st.just("Check"), st.builds(pb.CheckRequest, grant=GRANTS)),
    st.tuples(st.just("Get"), st.builds(pb.GetRequest, name=TEXTS)),
    st.tuples(st.just("List"), st.builds(pb.ListRequest, prefix=TEXTS, page_size=NUMBERS, page_token=TEXTS)),
    st.tuples(st.just("ForceRelease"), st.builds(pb.ForceReleaseRequest, name=TEXTS, token=TOKENS, reason=TEXTS)),
    st.tuples(st.just("Batch"), st.builds(pb.BatchRequest, operations=st.lists(
        st.one_of(st.builds(pb.BatchOperation, acquire=ACQUIRES), st.just(pb.BatchOperation())), max_size=3))),
    st.tuples(st.just("Create"), st.builds(spb.CreateRequest, ttl=DURATIONS, metadata=TEXTS)),
    st.tuples(st.just("KeepAlive"), st.builds(spb.KeepAliveRequest, session=TEXTS)),
    st.tuples(st.just("End"), st.builds(spb.EndRequest, session=TEXTS)),
    st.tuples(st.just("ListSessions"), st.builds(spb.ListSessionsRequest, page_size=NUMBERS, page_token=TEXTS)),
)  # fmt: skip


@pytest.mark.parametrize("messages", [MESSAGES, ADMIN_MESSAGES], ids=["locks and sessions", "administration"])
def test_whatever_a_message_says_the_answer_is_one_of_those_promised(
    service: LocalCluster, messages: st.SearchStrategy[Any]
) -> None:
    """No UNKNOWN, no INTERNAL: neither for any field nor for any bytes. Administration by the operator, who has no
    pace."""
    services = {rpc: name for name, rpc, _, _ in RPCS}
    key = service.operator_key if messages is ADMIN_MESSAGES else service.api_key

    async def run(said: list[tuple[str, Any]], data: bytes) -> None:
        async with grpc.aio.insecure_channel(service.grpc_address) as channel:
            api = Api(channel, key)
            for rpc, message in said:
                path = f"/holdfast.v1.{services[rpc]}/{rpc}"
                whole = message.SerializeToString()
                for sent in (whole, whole[: len(whole) // 2] + data):
                    call = channel.unary_unary(path, identity, identity)(sent, metadata=api.metadata, timeout=1)
                    assert await call.code() in EXPECTED, (rpc, message, await call.details())

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(messages, min_size=1, max_size=4), st.binary(max_size=30))
    def each(said: list[tuple[str, Any]], data: bytes) -> None:
        asyncio.run(run(said, data))

    each()


async def test_a_name_in_a_grant_is_no_secret_of_anothers(api: Api) -> None:
    """A LockID of nobody's and one that is damaged are refused alike."""
    grant: Grant = await api.acquire("front/1")
    damaged = grant.lock_id[:-2] + ("AA" if grant.lock_id[-2:] != "AA" else "BB")
    answers = [
        await refused(api.locks("Check", pb.CheckRequest(grant=GrantRef(lock_id=text))))
        for text in (damaged, "hf1_AAAA", "nothing")
    ]
    assert {answer.reason for answer in answers} == {"INVALID_LOCK_ID"}
    assert isinstance(answers[0], Refusal)
    await api.release(grant)
