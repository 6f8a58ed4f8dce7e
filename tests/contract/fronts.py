"""The ways in which a case is played."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol
from urllib.parse import quote

import httpx

import holdfast
from holdfast.errors import HoldfastError
from holdfast_router.operations.problems import problem_of

from .cases import Step

TTL_MS = 20_000


class Failed(Exception):
    """A step came to an error; its code."""


class Front(Protocol):
    async def play(self, step: Step, prefix: str, of: Any, under: Any) -> tuple[Any, dict[str, Any]]:
        """What later steps refer to, and what was told. Raises :class:`Failed`."""

    async def close(self) -> None: ...


class Http:
    """``named``: whether names travel in the path or in the body."""

    def __init__(self, url: str, key: str, *, in_path: bool) -> None:
        self._client = httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=20)
        self._in_path = in_path

    async def close(self) -> None:
        await self._client.aclose()

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None, **query: Any) -> dict[str, Any]:
        answer = await self._client.request(method, path, json=body, params=query or None)
        found: dict[str, Any] = answer.json()
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
            assert found["status"] == answer.status_code
            assert found["type"] == f"urn:holdfast:error:{found['code']}"
            raise Failed(found["code"])
        return found

    async def _named(self, operation: str, name: str, **fields: Any) -> dict[str, Any]:
        if self._in_path:
            return await self._ask("POST", f"/v1/locks/{quote(name, safe='')}/{operation}", fields)
        return await self._ask("POST", f"/v1/{operation}", {"name": name, **fields})

    async def play(self, step: Step, prefix: str, of: Any, under: Any) -> tuple[Any, dict[str, Any]]:
        name = prefix + step.name if step.name else ""
        match step.do:
            case "acquire":
                given = {"ttl_ms": TTL_MS, **step.given}
                given.pop("renew", None)
                if given.pop("shared", False):
                    given["mode"] = "shared"
                if "capacity" in given:
                    given["mode"] = "permits"
                if under is not None:
                    given["session"] = under["session"]
                if not name:  # which no path can hold
                    return await self._ask("POST", "/v1/acquire", {"name": "", **given}), {}
                grant = await self._named("acquire", name, **given)
                return grant, {}
            case "release":
                return None, await self._ask("POST", "/v1/release", {"lock_id": of["lock_id"]})
            case "renew":
                return None, await self._named("renew", of["name"], token=of["token"], ttl_ms=400)
            case "check":
                path = f"/v1/locks/{quote(of['name'], safe='')}/check"
                return None, await self._ask("GET", path, token=of["token"])
            case "get":
                state = await self._ask("GET", f"/v1/locks/{quote(name, safe='')}")
                return None, {"held": state["held"], "waiters": state["waiters"], "holders": state["holder_count"]}
            case "list":
                page = await self._ask("GET", "/v1/locks", prefix=name)
                return None, {"names": len(page["locks"])}
            case "break":
                return None, await self._ask("POST", f"/v1/locks/{quote(name, safe='')}/break", {"reason": "test"})
            case "session":
                return await self._ask("POST", "/v1/sessions", {"ttl_ms": TTL_MS}), {}
            case "keep":
                return None, await self._ask("POST", f"/v1/sessions/{of['session']}/keepalive")
            case "listed":
                parts = (await self._ask("GET", "/v1/sessions", limit=1000))["sessions"]
                return None, {"held": sum(part["held"] for part in parts if part["id"] == of["id"])}
            case "end":
                return None, await self._ask("DELETE", f"/v1/sessions/{of['session']}")
            case "batch":
                acquire = {"op": "acquire", "name": name, "ttl_ms": TTL_MS}
                operations = [acquire, {"op": "release", "lock_id": of["lock_id"]}]
                results = (await self._ask("POST", "/v1/batch", {"operations": operations}))["results"]
                return None, {"codes": [each["problem"]["code"] if "problem" in each else "" for each in results]}
        raise AssertionError(step.do)


class Sdk:
    def __init__(self, client: holdfast.Client) -> None:
        self._client = client

    async def close(self) -> None:
        await self._client.close()

    async def play(self, step: Step, prefix: str, of: Any, under: Any) -> tuple[Any, dict[str, Any]]:
        try:
            return await self._play(step, prefix + step.name if step.name else "", of, under)
        except holdfast.LockLost as error:
            raise Failed("lock-lost") from error
        except HoldfastError as error:
            code = problem_of(error).slug
            raise Failed("invalid-argument" if code == "invalid-name" else code) from error

    async def _play(self, step: Step, name: str, of: Any, under: Any) -> tuple[Any, dict[str, Any]]:
        client = self._client
        match step.do:
            case "acquire":
                lock = await self._lock(name, step, under)
                return (lock, lock.id), {}
            case "release":
                await client.release(of[1])
            case "renew":
                await of[0].renew()
                return None, {"expires_in_ms": 1000 * of[0].remaining()}
            case "check":
                return None, {"held": await client.check(of[1])}
            case "get":
                info = await client.get(name)
                return None, {"held": info.held, "waiters": info.waiters, "holders": info.holder_count}
            case "list":
                return None, {"names": len([info async for info in client.list(name)])}
            case "break":
                await client.force_release(name, reason="test")
                await asyncio.sleep(0)
            case "session":
                return client.session(ttl=TTL_MS / 1000), {}
            case "keep":
                assert not of.lost.is_set()
            case "listed":
                return None, {"held": sum([part.held async for part in client.sessions() if part.id == of.id])}
            case "end":
                await of.end()
            case "batch":
                asking = client.lock(name, ttl=TTL_MS / 1000, wait=0).acquire(), client.release(of[1])
                results = await asyncio.gather(*asking, return_exceptions=True)
                return None, {
                    "codes": [problem_of(one).slug if isinstance(one, HoldfastError) else "" for one in results]
                }
        return None, {}

    async def _lock(self, name: str, step: Step, under: Any) -> holdfast.Lock:
        given = dict(step.given)
        ttl, wait = given.get("ttl_ms", TTL_MS) / 1000, given.get("wait_ms", 0) / 1000
        if given.get("steal"):
            return await self._client.steal(name, ttl=ttl, wait=wait)
        if "capacity" in given:
            semaphore = self._client.semaphore(name, given["capacity"], given["permits"], ttl=ttl, wait=wait)
            return await semaphore.acquire()
        lock = self._client.lock(
            name, ttl=ttl, wait=wait, shared=given.get("shared", False), session=under, renew=given.get("renew", True)
        )
        return await lock.acquire()
