"""Users of HTTP and JSON (/v1), by Locust's own FastHttpUser."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

import msgspec
from locust import FastHttpUser

from .user import Customer
from .vocabulary import TTL_S, Grant, NotDone, Outcome

TTL_MS: Final = int(1000 * TTL_S)
LISTED_MAX: Final = 100

Request = tuple[str, str, dict[str, Any] | None]


def _acquire(name: str, wait_s: float, permits: int, capacity: int, session: str) -> Request:
    body: dict[str, Any] = {"name": name, "wait_ms": round(1000 * wait_s)}
    body |= {"session": session} if session else {"ttl_ms": TTL_MS}
    body |= {"mode": "permits", "permits": permits, "capacity": capacity} if capacity else {}
    return "POST", "/v1/acquire", body


def _of_grant(path: str, **more: int) -> Callable[..., Request]:
    def request(name: str, token: int, lock_id: str) -> Request:
        return "POST", path, {"lock_id": lock_id, **more}

    return request


REQUESTS: Final[dict[str, Callable[..., Request]]] = {
    "acquire": _acquire,
    "release": _of_grant("/v1/release"),
    "renew": _of_grant("/v1/renew", ttl_ms=TTL_MS),
    "check": _of_grant("/v1/check"),
    "get": lambda name: ("POST", "/v1/get", {"name": name}),
    "list": lambda prefix: ("GET", f"/v1/locks?prefix={quote(prefix, safe='')}&limit={LISTED_MAX}", None),
    "open session": lambda: ("POST", "/v1/sessions", {"ttl_ms": TTL_MS}),
    "end session": lambda session: ("DELETE", f"/v1/sessions/{quote(session, safe='')}", None),
}


def _grant(told: dict[str, Any], sent_s: float) -> Grant:
    return Grant(told["name"], told["token"], told["lock_id"], sent_s + told["expires_in_ms"] / 1000)


VALUES: Final[dict[str, Callable[[dict[str, Any], float], Any]]] = {
    "acquire": _grant,
    "check": lambda told, _: told["held"],
    "get": lambda told, _: told["holder_count"],
    "list": lambda told, _: len(told["locks"]),
    "open session": lambda told, _: told["session"],
}


class HttpUser(Customer, FastHttpUser):
    """Its connection is its own. Times are Locust's: they grow when Locust's process has no more time to give."""

    abstract = True
    tasks = [Customer.perform]  # noqa: RUF012 - as Locust declares it

    def connect(self) -> None:
        self._head = {"Authorization": f"Bearer {self.api_key}"}

    def disconnect(self) -> None:
        self.client.client.clientpool.close()

    def ask(self, verb: str, **arguments: Any) -> Any:
        method, path, body = REQUESTS[verb](**arguments)
        sent_s = time.monotonic()
        with self.client.request(method, path, json=body, headers=self._head, catch_response=True) as response:
            told, why = _read(response.status_code, response.content)
            response.request_meta.update(self.row(verb, why))
            if why is not None and why.outcome is Outcome.FAILED:
                response.failure(why)
            else:
                response.success()
        if why is not None:
            raise why
        return VALUES[verb](told, sent_s) if verb in VALUES else None


def _read(status: int, content: bytes | None) -> tuple[dict[str, Any], NotDone | None]:
    try:
        told: dict[str, Any] = msgspec.json.decode(content or b"", type=dict[str, Any])
    except msgspec.DecodeError:
        return {}, NotDone("no-answer", f"HTTP status {status}, and no JSON")
    if 200 <= status < 300:
        return told, None
    return told, NotDone(told.get("code", f"status {status}"), told.get("detail", ""), told.get("retry_after_ms", 0))
