"""What HTTP adds of its own: keys of idempotency, entity tags, limits, refusals in the words of HTTP, its documents."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import jsonschema_rs
import pytest
from msgspec import Struct

from holdfast.cluster import LocalCluster
from holdfast.wire.administration import ListTenants, RevokeKey
from holdfast_router.http.endpoints import ENDPOINTS
from holdfast_router.operations import requests as ask

from .conftest import client_of

EXAMPLES_AT_LENGTH = 200


async def acquired(http: httpx.AsyncClient, name: str, **given: Any) -> dict[str, Any]:
    answer = await http.post("/v1/acquire", json={"name": name, **given})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def waiters(http: httpx.AsyncClient, name: str, count: int) -> None:
    async with asyncio.timeout(10):
        while (await http.get(f"/v1/locks/{quote(name, safe='')}")).json()["waiters"] != count:
            await asyncio.sleep(0.01)


# Idempotency.


async def test_a_request_that_comes_again_gets_its_first_answer(http: httpx.AsyncClient) -> None:
    asked = {"name": "idempotent", "ttl_ms": 20_000}
    first, again = [await http.post("/v1/acquire", json=asked, headers={"Idempotency-Key": "one"}) for _ in range(2)]
    assert (first.status_code, again.status_code, again.json()["token"]) == (200, 200, first.json()["token"])
    assert (first.headers.get("idempotent-replayed"), again.headers["idempotent-replayed"]) == (None, "true")
    assert again.json()["expires_in_ms"] <= first.json()["expires_in_ms"]
    other = await http.post("/v1/acquire", json={"name": "another"}, headers={"Idempotency-Key": "one"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")
    blank = await http.post("/v1/acquire", json=asked, headers={"Idempotency-Key": "a b"})
    assert blank.status_code == 400


async def test_what_was_granted_and_is_held_no_more_is_not_told_again_as_held(http: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "gone"}
    grant = (await http.post("/v1/acquire", json={"name": "gone"}, headers=key)).json()
    many = {"operations": [{"op": "acquire", "name": f"gone/{at}"} for at in range(2)]}
    first = (await http.post("/v1/batch", json=many, headers={"Idempotency-Key": "many-gone"})).json()["results"]
    for lock_id in (grant["lock_id"], first[1]["result"]["lock_id"]):
        assert (await http.post("/v1/release", json={"lock_id": lock_id})).status_code == 200
    again = await http.post("/v1/acquire", json={"name": "gone"}, headers=key)
    assert (again.status_code, again.json()["code"]) == (409, "not-held")
    results = (await http.post("/v1/batch", json=many, headers={"Idempotency-Key": "many-gone"})).json()["results"]
    assert [result["status"] for result in results] == [200, 409]
    assert results[0]["result"]["token"] == first[0]["result"]["token"]
    assert results[1]["problem"]["code"] == "not-held"


async def test_a_session_that_is_ended_again_was_ended(http: httpx.AsyncClient) -> None:
    """Whoever did not hear the first answer must not take it that he lost the session before."""
    session = (await http.post("/v1/sessions", json={})).json()["session"]
    key = {"Idempotency-Key": "ended"}
    first, again = [await http.delete(f"/v1/sessions/{session}", headers=key) for _ in range(2)]
    assert (first.status_code, again.status_code, again.json()) == (200, 200, first.json())
    assert (first.headers.get("idempotent-replayed"), again.headers["idempotent-replayed"]) == (None, "true")
    another = await http.delete(f"/v1/sessions/{session}", headers={"Idempotency-Key": "ended-anew"})
    assert (another.status_code, another.json()["code"]) == (404, "session-lost")


async def test_every_method_that_changes_something_takes_a_key_of_idempotency(http: httpx.AsyncClient) -> None:
    paths = (await http.get("/openapi.json")).json()["paths"]
    heeds = {
        operation["operationId"]
        for path in paths.values()
        for method, operation in path.items()
        if method != "get" and any(given.get("name") == "Idempotency-Key" for given in operation.get("parameters", ()))
    }
    assert {each.id for each in ENDPOINTS if each.method != "GET"} - heeds == {"get", "check"}


async def test_a_copy_joins_the_first_while_that_waits(http: httpx.AsyncClient) -> None:
    held = await acquired(http, "joined")
    asked, key = {"name": "joined", "wait_ms": 10_000}, {"Idempotency-Key": "two"}
    copies = [asyncio.create_task(http.post("/v1/acquire", json=asked, headers=key)) for _ in range(3)]
    await waiters(http, "joined", 1)
    await http.post("/v1/release", json={"lock_id": held["lock_id"]})
    answers = [(await copy).json() for copy in copies]
    assert len({answer["token"] for answer in answers}) == 1


# Waiting.


async def test_whoever_hangs_up_leaves_the_queue(http: httpx.AsyncClient, cluster: LocalCluster) -> None:
    await acquired(http, "hung up")
    async with client_of(cluster, cluster.api_key) as other:
        waiting = asyncio.create_task(other.post("/v1/acquire", json={"name": "hung up", "wait_ms": 60_000}))
        await waiters(http, "hung up", 1)
        waiting.cancel()
    await waiters(http, "hung up", 0)


# A key that ends.


async def short_lived(http: httpx.AsyncClient) -> tuple[str, str]:
    """Another key of the tenant: its id and itself."""
    made = (await http.post("/v1/admin", json={"type": "key.create", "name": "short-lived"})).json()["result"]
    return made["key"]["id"], made["api_key"]


async def revoke(http: httpx.AsyncClient, key: str) -> None:
    revoked = await http.post("/v1/admin", json={"type": "key.revoke", "key": key})
    assert revoked.status_code == 200, revoked.text


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "waits"}], ids=["plain", "once"])
async def test_a_revoked_key_ends_what_waits_under_it_and_is_refused(
    http: httpx.AsyncClient, cluster: LocalCluster, headers: dict[str, str]
) -> None:
    held, (number, key) = await acquired(http, "revoked"), await short_lived(http)
    async with client_of(cluster, key) as other:
        asked = {"name": "revoked", "wait_ms": 60_000}
        copies = [asyncio.create_task(other.post("/v1/acquire", json=asked, headers=headers)) for _ in range(2)]
        await waiters(http, "revoked", 1 if headers else 2)
        await revoke(http, number)
        async with asyncio.timeout(5):
            answers = [await copy for copy in copies]
        found = {(answer.status_code, answer.json()["code"], answer.json()["definite"]) for answer in answers}
        assert found == {(401, "unauthenticated", True)}
        assert (await other.get("/v1/locks")).status_code == 401
    await waiters(http, "revoked", 0)
    await http.post("/v1/release", json={"lock_id": held["lock_id"]})
    again = await acquired(http, "revoked")
    await http.post("/v1/release", json={"lock_id": again["lock_id"]})


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "batch"}], ids=["plain", "once"])
async def test_what_a_batch_had_already_is_given_back_when_its_key_ends(
    http: httpx.AsyncClient, cluster: LocalCluster, headers: dict[str, str]
) -> None:
    held = await acquired(http, "in the way", ttl_ms=60_000)
    number, key = await short_lived(http)
    async with client_of(cluster, key) as other:
        operations = [{"op": "acquire", "name": "had"}, {"op": "acquire", "name": "in the way", "wait_ms": 60_000}]
        batch = asyncio.create_task(other.post("/v1/batch", json={"operations": operations}, headers=headers))
        await waiters(http, "in the way", 1)
        await until_held(http, "had", held=True)
        await revoke(http, number)
        answer = await batch
        assert (answer.status_code, answer.json()["definite"]) == (401, False), "others of its operations may be done"
    await until_held(http, "had", held=False)
    await waiters(http, "in the way", 0)
    await http.post("/v1/release", json={"lock_id": held["lock_id"]})


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "suspended"}], ids=["plain", "once"])
async def test_a_request_that_its_tenants_suspension_cuts_off_is_definite_only_if_nothing_is_left_of_it(
    cluster: LocalCluster, headers: dict[str, str]
) -> None:
    tenant = f"cut-off-{len(headers)}"
    async with client_of(cluster, cluster.operator_key) as operator:
        made = await operator.post("/v1/admin", json={"type": "tenant.create", "id": tenant})
        async with client_of(cluster, made.json()["result"]["api_key"]) as other:
            await acquired(other, "in the way", ttl_ms=60_000)
            operations = [{"op": "acquire", "name": "in the way", "wait_ms": 60_000}]
            cut_off = [
                asyncio.create_task(other.post(path, json=asked, headers={k: f"{v}{path}" for k, v in headers.items()}))
                for path, asked in (
                    ("/v1/acquire", {"name": "in the way", "wait_ms": 60_000}),
                    ("/v1/batch", {"operations": operations}),
                    ("/v1/locks/in%20the%20way/acquire", {"steal": True, "wait_ms": 60_000}),
                )
            ]
            await waiters(other, "in the way", 3)
            suspended = await operator.post("/v1/admin", json={"type": "tenant.suspend", "tenant": tenant})
            assert suspended.status_code == 200, suspended.text
            answers = [await each for each in cut_off]
    assert [(answer.status_code, answer.json()["definite"]) for answer in answers] == [
        (403, True),
        (403, False),
        (403, False),
    ]


@pytest.mark.parametrize(
    ("endpoint", "asked", "taken_back"),
    [
        ("acquire", None, True),
        ("acquire", ask.Acquire(name="a"), True),
        ("acquire", ask.Acquire(name="a", steal=True), False),
        ("get", ask.Get(name="a"), True),
        ("release", ask.Release(name="a", token=1), False),
        ("createSession", ask.CreateSession(), False),
        ("endSession", ask.EndSession(session="a"), False),
        ("administer", ListTenants(), True),
        ("administer", RevokeKey("a"), False),
    ],
)
def test_what_is_cut_off_is_definite_only_if_nothing_is_left_of_it(
    endpoint: str, asked: Struct | None, *, taken_back: bool
) -> None:
    (found,) = [each for each in ENDPOINTS if each.id == endpoint]
    assert found.is_taken_back(asked) is taken_back


async def until_held(http: httpx.AsyncClient, name: str, *, held: bool) -> None:
    async with asyncio.timeout(10):
        while (await http.get(f"/v1/locks/{name}")).json()["held"] is not held:
            await asyncio.sleep(0.01)


async def test_a_watch_says_that_its_key_has_ended_and_ends(http: httpx.AsyncClient, cluster: LocalCluster) -> None:
    number, key = await short_lived(http)
    async with (
        client_of(cluster, key) as other,
        other.stream("GET", "/v1/watch", params={"name": "watched"}) as response,
        asyncio.timeout(10),
    ):
        lines = response.aiter_lines()
        while await anext(lines) != "event: lock":
            pass
        await revoke(http, number)
        last = [line async for line in lines if line]
    assert last[-2] == "event: problem"
    assert '"code":"unauthenticated"' in last[-1]


# Refusals.


@pytest.mark.parametrize(
    ("method", "path", "given", "status", "code"),
    [
        ("GET", "/nothing", {}, 404, "not-found"),
        ("PUT", "/v1/sessions", {}, 405, "method-not-allowed"),
        ("POST", "/v1/acquire", {"content": b"{}"}, 415, "unsupported-media-type"),
        ("POST", "/v1/acquire", {"json": {}, "headers": {"Content-Encoding": "gzip"}}, 415, "unsupported-media-type"),
        ("POST", "/v1/acquire", {"content": b"{", "headers": {"Content-Type": "application/json"}}, 400, "bad-request"),
        ("POST", "/v1/acquire", {"json": {"name": "a" * (1 << 20)}}, 413, "too-large"),
        ("POST", "/v1/acquire", {"json": {"name": "a", "color": "red"}}, 400, "invalid-argument"),
        ("POST", "/v1/locks/%FF/acquire", {"json": {}}, 400, "invalid-argument"),
        ("GET", "/v1/locks?limit=0", {}, 400, "invalid-argument"),
        ("GET", "/v1/locks?cursor=hfc1_AAAA", {}, 400, "invalid-argument"),
        ("GET", "/v1/locks?limit=1&limit=2", {}, 400, "invalid-argument"),
        ("DELETE", "/v1/sessions/hfs1_AAAA", {}, 400, "invalid-argument"),
        ("POST", "/v1/admin", {"json": {"type": "audit.list", "cursor": 10**30}}, 400, "invalid-argument"),
        ("POST", "/v1/admin", {"json": {"type": "lock.break", "name": "a", "token": -1}}, 400, "invalid-argument"),
    ],
)
async def test_what_cannot_be_is_refused_in_the_words_of_http(
    http: httpx.AsyncClient, method: str, path: str, given: dict[str, Any], status: int, code: str
) -> None:
    answer = await http.request(method, path, **given)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    if status == 405:
        assert {"GET", "POST"} <= {word.strip() for word in answer.headers["allow"].split(",")}


@pytest.mark.parametrize("given", [{}, {"Authorization": "Bearer hf_x"}, {"Authorization": "Basic aGY6eA=="}])
async def test_without_a_key_there_is_nothing(cluster: LocalCluster, given: dict[str, str]) -> None:
    async with httpx.AsyncClient(base_url=cluster.http_url) as http:
        answer = await http.get("/v1/locks", headers=given)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
        assert answer.headers["www-authenticate"].startswith("Bearer")
        shown = given.get("Authorization", "").startswith("Bearer")
        assert ("Authorization: Bearer" in answer.json()["detail"]) is not shown, "what was left out is said"
        for path in ("/healthz", "/readyz", "/openapi.json", "/docs"):
            assert (await http.get(path)).status_code == 200


async def test_no_operation_of_the_document_is_done_without_a_key(cluster: LocalCluster) -> None:
    async with httpx.AsyncClient(base_url=cluster.http_url) as http:
        paths = (await http.get("/openapi.json")).json()["paths"]
        asked = [(method, path) for path, methods in paths.items() if path.startswith("/v1/") for method in methods]
        assert len(asked) > 15
        for method, path in asked:
            answer = await http.request(method, re.sub(r"{\w+}", "a", path), json={})
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), (method, path)


async def test_a_used_up_rate_says_when_to_come_again(http: httpx.AsyncClient, cluster: LocalCluster) -> None:
    async with client_of(cluster, cluster.operator_key) as operator:
        asked = {"type": "tenant.create", "id": "slow", "quotas": {"rate": 5, "burst": 5}}
        made = await operator.post("/v1/admin", json=asked)
        assert made.status_code == 200, made.text
    async with client_of(cluster, made.json()["result"]["api_key"]) as slow:
        async with asyncio.timeout(10):
            while (await slow.get("/v1/locks/a")).status_code == 401:  # the router hears of it a little later
                await asyncio.sleep(0.02)
        answers = await asyncio.gather(*(slow.get("/v1/locks/a") for _ in range(12)))
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused
        problem = refused[0].json()
        assert (problem["code"], problem["quota"], problem["limit"]) == ("throttled", "rate", 5)
        assert int(refused[0].headers["retry-after"]) == max(1, -(-problem["retry_after_ms"] // 1000))
        assert re.fullmatch(r'"rate";q=5;w=1', refused[0].headers["ratelimit-policy"])
        assert re.fullmatch(r'"rate";r=0;t=\d+', refused[0].headers["ratelimit"])


async def test_no_other_origins_page_may_use_it_by_default(http: httpx.AsyncClient) -> None:
    given = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
    assert (await http.options("/v1/acquire", headers=given)).status_code == 405
    answer = await http.get("/v1/locks", headers=given)
    assert not [name for name in answer.headers if name.startswith("access-control")]


# Reading.


async def test_an_entity_tag_changes_with_what_lasts(http: httpx.AsyncClient) -> None:
    grant = await acquired(http, "tagged")
    tag = (await http.get("/v1/locks/tagged")).headers["etag"]
    for known in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
        assert (await http.get("/v1/locks/tagged", headers={"If-None-Match": known})).status_code == 304
    assert (await http.get("/v1/locks/tagged", headers={"If-None-Match": '"other"'})).status_code == 200
    await http.post("/v1/release", json={"lock_id": grant["lock_id"]})
    changed = await http.get("/v1/locks/tagged", headers={"If-None-Match": tag})
    assert (changed.status_code, changed.json()["held"]) == (200, False)


async def test_a_whole_number_may_be_written_with_a_fraction_of_nothing(http: httpx.AsyncClient) -> None:
    """As JSON Schema has it; some programs know no other numbers."""
    asked = {"operations": [{"op": "acquire", "name": "whole", "ttl_ms": 30_000.0, "wait_ms": 0.0}]}
    granted = (await http.post("/v1/batch", json=asked)).json()["results"][0]
    assert granted["status"] == 200
    for token in (1.5, "1", 1e300, True):
        answer = await http.post("/v1/check", json={"name": "whole", "token": token})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid-argument"), token


async def test_a_batch_tells_of_each_operation(http: httpx.AsyncClient) -> None:
    other = 1 << 50  # a tenant's tokens begin at 1 in each group
    operations = [{"op": "acquire", "name": "in a batch"}, {"op": "check", "name": "in a batch", "token": other}]
    wrong = {"op": "release", "name": "in a batch", "token": other}
    answer = await http.post("/v1/batch", json={"operations": [*operations, wrong]})
    results = answer.json()["results"]
    assert [result["status"] for result in results] == [200, 200, 409]
    assert results[2]["problem"]["code"] == "not-held"


# Documents.


async def test_the_document_is_of_openapi_and_its_examples_are_what_is_served(http: httpx.AsyncClient) -> None:
    document = (await http.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    assert not re.findall(r"``|:\w+:`", json.dumps(document)), "descriptions are CommonMark"
    for methods in document["paths"].values():
        for operation in methods.values():
            for media in _media(operation):
                if "example" in media:
                    schema = {**media["schema"], "components": document["components"]}
                    jsonschema_rs.Draft202012Validator(schema).validate(media["example"])


async def test_types_of_the_document_have_short_names_and_those_of_administration_their_answers(
    http: httpx.AsyncClient,
) -> None:
    types = (await http.get("/openapi.json")).json()["components"]["schemas"]
    assert not [name for name in types if "." in name]
    assert types["ListLocks"] != types["AdminListLocks"]
    named = {name for one in types.values() for name in re.findall(r"`(Admin\w+)`", one.get("description", ""))}
    assert "AdminTenantPage" in named
    assert named <= types.keys()


async def test_every_body_of_the_document_has_an_example(http: httpx.AsyncClient) -> None:
    paths = (await http.get("/openapi.json")).json()["paths"]
    asked = {name: part for methods in paths.values() for part in methods.values() if (name := part["operationId"])}
    without = {
        name
        for name, operation in asked.items()
        for part in (operation.get("requestBody", {}), *map(operation["responses"].get, ("200", "201")))
        for media in (part or {}).get("content", {}).values()
        if "example" not in media
    }
    assert not without


async def test_a_name_that_cannot_be_is_refused_in_words(http: httpx.AsyncClient) -> None:
    in_path, in_body = await http.get("/v1/locks/a%0Ab"), await http.post("/v1/acquire", json={"name": "a\nb"})
    for answer in (in_path, in_body):
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid-argument")
        assert answer.json()["detail"] == "Expected `str` without control characters - at `$.name`"


def _media(operation: dict[str, Any]) -> list[dict[str, Any]]:
    parts = [operation.get("requestBody", {}), *operation["responses"].values()]
    return [media for part in parts for media in part.get("content", {}).values()]


async def test_the_page_for_people_needs_no_network_and_shows_every_operation(http: httpx.AsyncClient) -> None:
    page = (await http.get("/docs")).text
    assert not re.findall(r"(?:src|href)=\"(?!/openapi\.json|#)", page)
    for path in (await http.get("/openapi.json")).json()["paths"]:
        assert f"<code>{path}</code>" in page
    assert "Each connection begins anew" in page, "what is described is shown"
    assert "<code></code>" not in page


LONG = (pytest.mark.long, pytest.mark.timeout(1800))
SETTINGS = Path(__file__).with_name("schemathesis.toml")


@pytest.mark.parametrize("examples", [6, pytest.param(EXAMPLES_AT_LENGTH, marks=LONG)])
async def test_nothing_that_schemathesis_makes_up_breaks_the_service_or_its_document(
    cluster: LocalCluster, tmp_path: Path, examples: int
) -> None:
    """As the administrator of a tenant of its own, which has as many keys in the end as it may.

    Left out: ``watch``, whose answer has no end (tests/grpc/test_event_stream.py). ``ignored_auth``: an address that
    shows thirty wrong keys is told so instead of 401 (tests/isolation/test_fronts.py); that nothing is done without a
    key is shown above. Checks of what is left after a DELETE: no session is made by the id that it is deleted by. The
    coverage phase is as long as the document: by ``make api`` alone.
    """
    at_length = examples == EXAMPLES_AT_LENGTH
    async with client_of(cluster, cluster.operator_key) as operator:
        asked = {"type": "tenant.create", "id": f"made-up-{examples}", "plan": "unlimited"}
        made = (await operator.post("/v1/admin", json=asked)).json()["result"]
    checks = (
        "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
        "response_schema_conformance", "unsupported_method", "positive_data_acceptance", "negative_data_rejection",
    )  # fmt: skip
    command = [
        str(Path(sys.executable).with_name("st")), "--config-file", str(SETTINGS), "run",
        f"{cluster.http_url}/openapi.json", "--checks", ",".join(checks),
        "--header", f"Authorization: Bearer {made['api_key']}", "--max-examples", str(examples), "--no-color",
        "--phases", "examples,coverage,fuzzing" if at_length else "examples,fuzzing",
        "--exclude-operation-id", "watch", "--continue-on-failure", *(() if at_length else ("--seed", "1")),
    ]  # fmt: skip
    ran = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said, _ = await ran.communicate()
    assert ran.returncode == 0, said.decode()[-8000:]
