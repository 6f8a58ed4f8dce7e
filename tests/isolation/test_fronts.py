"""One tenant tries to observe another through HTTP, gRPC and their watches, and what wrong keys come to there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import grpc
import httpx
import msgspec
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.text_format import MessageToString

from holdfast.v1 import admin_pb2 as apb
from holdfast.v1 import locks_pb2 as pb
from holdfast.v1 import sessions_pb2 as spb
from holdfast.v1.types_pb2 import GrantRef
from holdfast.wire.limits import FAILED_LOGINS_BURST
from tests.grpc.calling import Api, Refusal, refused
from tests.router.test_process import OTHER_KEY, Service

HELD, FREE = "held/one", "free/one"


class ByHttp:
    def __init__(self, service: Service, key: str) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        self._client = httpx.AsyncClient(base_url=f"http://{service.http}", headers=headers, timeout=30)

    async def close(self) -> None:
        await self._client.aclose()

    async def ask(self, do: str, **given: Any) -> str:
        """All that is told, but for what is the asker's own: dates and rates."""
        headers = given.pop("headers", {})
        match do:
            case "list":
                answer = await self._client.get("/v1/locks", params=given)
            case "sessions":
                answer = await self._client.get("/v1/sessions", params=given)
            case "keep":
                answer = await self._client.post(f"/v1/sessions/{given['session']}/keepalive")
            case "end":
                answer = await self._client.delete(f"/v1/sessions/{given['session']}")
            case "break":
                answer = await self._client.post(f"/v1/locks/{quote(given.pop('name'), safe='')}/break", json=given)
            case "audit":
                answer = await self._client.post("/v1/admin", json={"type": "audit.list"})
            case _:
                answer = await self._client.post(f"/v1/{do}", json=given, headers=headers)
        names = sorted(name for name in answer.headers if name not in ("content-length", "etag"))
        return f"{answer.status_code} {names} {answer.text}"

    async def acquire(self, name: str, **given: Any) -> dict[str, Any]:
        answer = await self._client.post("/v1/acquire", json={"name": name, **given})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def session(self) -> str:
        return str((await self._client.post("/v1/sessions", json={})).json()["session"])

    async def cursor(self, **given: Any) -> str:
        return str((await self._client.get("/v1/locks", params=given)).json()["cursor"])

    async def watch(self, **given: str) -> AsyncIterator[tuple[str, int]]:
        async with self._client.stream("GET", "/v1/watch", params=given) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    state = msgspec.json.decode(line.removeprefix("data: "))
                    yield state["name"], state["holder_count"]


_RPCS = {
    "get": ("Get", pb.GetRequest), "check": ("Check", pb.CheckRequest), "release": ("Release", pb.ReleaseRequest),
    "renew": ("Renew", pb.RenewRequest), "break": ("ForceRelease", pb.ForceReleaseRequest),
    "list": ("List", pb.ListRequest), "acquire": ("Acquire", pb.AcquireRequest),
}  # fmt: skip
_RPCS_OF_SESSIONS = {
    "sessions": ("ListSessions", spb.ListSessionsRequest), "keep": ("KeepAlive", spb.KeepAliveRequest),
    "end": ("End", spb.EndRequest),
}  # fmt: skip


class ByGrpc:
    def __init__(self, service: Service, key: str) -> None:
        self._channel = grpc.aio.insecure_channel(service.grpc)
        self._api = Api(self._channel, key)

    async def close(self) -> None:
        await self._channel.close()

    async def ask(self, do: str, **given: Any) -> str:
        if "token" in given or "lock_id" in given:
            reference = {key: given.pop(key) for key in ("name", "token", "lock_id") if key in given}
            given = {"grant": GrantRef(**reference), **given}
        for ours, its in (("cursor", "page_token"), ("limit", "page_size")):
            if ours in given:
                given[its] = given.pop(ours)
        given = {name: Duration(seconds=value // 1000) if name == "ttl" else value for name, value in given.items()}
        try:
            if do == "audit":
                return MessageToString(await self._api.admin("ListAuditRecords", apb.ListAuditRecordsRequest()))
            if do in _RPCS:
                rpc, kind = _RPCS[do]
                return MessageToString(await self._api.locks(rpc, kind(**given)))
            rpc, of_sessions = _RPCS_OF_SESSIONS[do]
            return MessageToString(await self._api.sessions(rpc, of_sessions(**given)))
        except grpc.aio.AioRpcError as error:
            told = Refusal(error)
            return f"{told.status} {told.message} {told.details}"

    async def acquire(self, name: str, **given: Any) -> dict[str, Any]:
        grant = await self._api.acquire(name, **given)
        return {"token": grant.token, "lock_id": grant.lock_id}

    async def session(self) -> str:
        return str((await self._api.sessions("Create", spb.CreateRequest())).session)

    async def cursor(self, **given: Any) -> str:
        page = await self._api.locks("List", pb.ListRequest(prefix=given["prefix"], page_size=given["limit"]))
        return str(page.next_page_token)

    async def watch(self, **given: str) -> AsyncIterator[tuple[str, int]]:
        call = self._api.locks("Watch", pb.WatchRequest(**given))
        try:
            while (response := await call.read()) is not grpc.aio.EOF:
                yield response.lock.name, response.lock.holder_count
        finally:
            call.cancel()


Pair = tuple[Any, Any]


@pytest.fixture(params=["HTTP", "gRPC"])
async def pair(request: pytest.FixtureRequest, service: Service) -> AsyncIterator[Pair]:
    """Mine, and theirs who look for it."""
    kind = ByHttp if request.param == "HTTP" else ByGrpc
    mine, theirs = kind(service, service.key), kind(service, OTHER_KEY)
    yield mine, theirs
    await mine.close()
    await theirs.close()


def damaged(text: str) -> str:
    """As good as made up."""
    middle = len(text) // 2
    return text[:middle] + ("A" if text[middle] != "A" else "B") + text[middle + 1 :]


async def test_what_is_anothers_is_answered_as_what_does_not_exist(pair: Pair) -> None:
    mine, theirs = pair
    session = await mine.session()
    grant = await mine.acquire(HELD, session=session, metadata="secret plan")
    token, lock_id = grant["token"], grant["lock_id"]
    cursor = await mine.cursor(prefix="", limit=1)
    for do, given in (
        ("get", {}), ("check", {"token": token}), ("release", {"token": token}), ("renew", {"token": token}),
        ("break", {}),
    ):  # fmt: skip
        foreign, absent = [await theirs.ask(do, name=name, **given) for name in (HELD, FREE)]
        assert foreign.replace(HELD, FREE) == absent, do
    for do, name, text in (
        ("check", "lock_id", lock_id), ("release", "lock_id", lock_id), ("renew", "lock_id", lock_id),
        ("keep", "session", session), ("end", "session", session), ("list", "cursor", cursor or "hfc1_AAAA"),
        ("sessions", "cursor", cursor or "hfc1_AAAA"),
    ):  # fmt: skip
        foreign, invented = [await theirs.ask(do, **{name: each}) for each in (text, damaged(text))]
        assert foreign == invented, do
        assert "400" in foreign or "INVALID_ARGUMENT" in foreign
    foreign, invented = [await theirs.ask("acquire", name=FREE, session=each) for each in (session, damaged(session))]
    assert foreign == invented
    for do in ("list", "sessions", "audit"):
        told = await theirs.ask(do)
        assert not [text for text in ("secret plan", session, lock_id) if text in told], told
        assert do == "audit" or HELD not in told, told
    assert "true" in await mine.ask("check", name=HELD, token=token)
    await mine.ask("end", session=session)


async def test_the_same_name_is_another_lock_with_a_queue_of_its_own(pair: Pair) -> None:
    mine, theirs = pair
    name = f"same/{type(mine).__name__}"
    held = await mine.acquire(name)
    other = await theirs.acquire(name)
    waiting = asyncio.create_task(theirs.ask("acquire", name=name, **_waiting(theirs)))
    while _waiters(1) not in (told := await theirs.ask("get", name=name)) and "waiters: 1" not in told:
        await asyncio.sleep(0.01)
    told = await mine.ask("get", name=name)
    assert _waiters(0) in told or "waiters" not in told
    await theirs.ask("release", lock_id=other["lock_id"])
    assert "lock_id" in await waiting
    await mine.ask("release", lock_id=held["lock_id"])


def _waiting(tenant: Any) -> dict[str, Any]:
    return {"wait_ms": 20_000} if isinstance(tenant, ByHttp) else {"wait": Duration(seconds=20)}


def _waiters(count: int) -> str:
    return f'"waiters":{count}'


@pytest.mark.parametrize("given", [{"name": "seen/a"}, {"prefix": "seen/"}], ids=["name", "prefix"])
async def test_a_watch_shows_nothing_of_others(pair: Pair, given: dict[str, str]) -> None:
    mine, theirs = pair
    held = await mine.acquire("seen/a")
    watch = theirs.watch(**given)
    if "name" in given:
        assert await anext(watch) == ("seen/a", 0)
    coming = asyncio.ensure_future(anext(watch))
    await mine.ask("release", lock_id=held["lock_id"])
    held = await mine.acquire("seen/a")
    # Its own comes next, after all that might have been told of another's.
    while not coming.done():
        own = await theirs.acquire("seen/a")
        await asyncio.wait((coming,), timeout=1)
        await theirs.ask("release", lock_id=own["lock_id"])
    assert coming.result() == ("seen/a", 1)
    await watch.aclose()
    await mine.ask("release", lock_id=held["lock_id"])


async def test_a_key_of_idempotency_is_the_tenants_own(service: Service) -> None:
    mine, theirs = ByHttp(service, service.key), ByHttp(service, OTHER_KEY)
    asked = {"name": "once", "headers": {"Idempotency-Key": "the-same"}}
    first, again, other = [await each.ask("acquire", **asked) for each in (mine, mine, theirs)]
    replayed = ["idempotent-replayed" in told for told in (first, again, other)]
    assert replayed == [False, True, False], (first, again, other)
    different = await theirs.ask("acquire", name="twice", headers={"Idempotency-Key": "the-other"})
    assert different.startswith("200")
    # Another request under a key that only the other tenant used is no conflict.
    assert (await mine.ask("acquire", name="thrice", headers={"Idempotency-Key": "the-other"})).startswith("200")
    await mine.close()
    await theirs.close()


async def test_wrong_keys_are_limited_by_address_over_http_and_grpc(service: Service) -> None:
    """One count for all fronts of a router; and a right key is let in whatever wrong ones came from its address, for
    strangers may come by the same proxy as holders that have to renew."""
    first = service.address, service.http, service.grpc
    process = service.start_router()
    (_, http_address, grpc_address), (service.address, service.http, service.grpc) = (
        (service.address, service.http, service.grpc), first,
    )  # fmt: skip
    try:
        async with (
            httpx.AsyncClient(base_url=f"http://{http_address}") as http,
            grpc.aio.insecure_channel(grpc_address) as channel,
        ):
            wrong, right = Api(channel, "hf_nobody_nothing"), Api(channel, service.key)
            for number in range(FAILED_LOGINS_BURST):
                if number % 2:
                    answer = await http.get("/v1/locks", headers={"Authorization": "Bearer hf_nobody_nothing"})
                    assert answer.status_code == 401
                else:
                    told = await refused(wrong.locks("Get", pb.GetRequest(name="a")))
                    assert told.status == grpc.StatusCode.UNAUTHENTICATED
            answer = await http.get("/v1/locks", headers={"Authorization": "Bearer hf_nobody_nothing"})
            problem = answer.json()
            assert (answer.status_code, problem["code"], problem["quota"]) == (429, "throttled", "failed_logins")
            assert int(answer.headers["retry-after"]) == -(-problem["retry_after_ms"] // 1000)
            told = await refused(wrong.locks("Get", pb.GetRequest(name="a")))
            assert (told.status, told.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "THROTTLED")
            assert told.details["RetryInfo"].retry_delay.ToMilliseconds() > 0
            assert told.details["QuotaFailure"].violations[0].subject == "quota:failed_logins"
            answer = await http.get("/v1/locks", headers={"Authorization": f"Bearer {service.key}"})
            assert answer.status_code == 200
            await right.locks("Get", pb.GetRequest(name="a"))
    finally:
        process.terminate()
        assert process.wait(20) == 0
        assert process.stdout is not None
        process.stdout.close()
