"""What is answered: results, and problems where there is none, with the header fields that go along."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Final

import msgspec
from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from holdfast.errors import HoldfastError

from ..admission.verdict import RATE, Standing
from ..operations.requests import LockState
from .endpoints import Endpoint
from .line import Line
from .problem_details import MEDIA_TYPE, ProblemDetails, details_of, plain_problem
from .request import LINE, Request

HEADERS: Final = {"x-content-type-options": "nosniff", "cache-control": "no-store"}
"""Of every answer."""

Fields = Iterable[tuple[bytes, bytes]]


def encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """As ASGI wants them."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def decoded(fields: Fields) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in fields}


_ALWAYS: Final = encoded(HEADERS)
_JSON: Final = b"application/json"
_PROBLEM: Final = MEDIA_TYPE.encode()


class Answer:
    """Whole, and written as one piece, head and body: a second one is a second system call and a second packet."""

    __slots__ = ("_body", "_fields", "_status")

    def __init__(self, status: int, body: bytes = b"", media: bytes = _JSON, fields: Fields = ()) -> None:
        self._status = status
        self._body = body
        self._fields = [*_ALWAYS, *fields]
        if status != 304:
            self._fields += [(b"content-type", media), (b"content-length", b"%d" % len(body))]

    def add(self, fields: Fields) -> None:
        self._fields += fields

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        line: Line = scope["state"][LINE]
        line.hold_back()
        try:
            await send({"type": "http.response.start", "status": self._status, "headers": self._fields})
            await send({"type": "http.response.body", "body": self._body})
        finally:
            line.let_go()


def answer(endpoint: Endpoint, request: Request, answer: Struct, *, replayed: bool = False) -> Answer:
    fields = [(b"idempotent-replayed", b"true")] if replayed else []
    if isinstance(answer, LockState):
        tag = _tag(answer)
        fields.append((b"etag", tag.encode()))
        known = request.field(b"if-none-match")
        # Compared weakly (RFC 9110, 13.1.2): whether a tag is called weak does not matter.
        if known.strip() == "*" or tag.removeprefix("W/") in known:
            return Answer(304, fields=fields)
    return Answer(endpoint.status, msgspec.json.encode(answer), fields=fields)


def rate_limit(standing: Standing) -> list[tuple[bytes, bytes]]:
    """The ``RateLimit`` header fields (draft-ietf-httpapi-ratelimit-headers), in operations."""
    left = f'"{RATE}";r={max(standing.remaining, 0)};t={math.ceil(standing.reset_s)}'
    return [_policy(standing.burst, standing.limit), (b"ratelimit", left.encode())]


@lru_cache(1024)
def _policy(burst: int, limit: int) -> tuple[bytes, bytes]:
    window_s = max(math.ceil(burst / limit), 1) if limit else 1
    return b"ratelimit-policy", f'"{RATE}";q={burst};w={window_s}'.encode()


def _tag(state: LockState) -> str:
    """Weak: of all but what passes by itself, ages and remaining times."""
    lasting = [
        [state.name, state.holder_count, state.waiters, state.capacity, state.closed_ms > 0],
        [[one.token, one.mode, one.permits, one.session_id, one.leaving, one.count] for one in state.holders],
    ]
    return f'W/"{blake2b(msgspec.msgpack.encode(lasting), digest_size=12).hexdigest()}"'


def json_of(value: object) -> Answer:
    return Answer(200, msgspec.json.encode(value))


def refused(error: HoldfastError, *, definite: bool = True) -> Answer:
    """``definite``: False when something may have been done all the same."""
    details = details_of(error)
    return problem(details if definite else msgspec.structs.replace(details, definite=False))


def problem(details: ProblemDetails, headers: Mapping[str, str] | None = None) -> Answer:
    given = encoded({**details.headers, **(headers or {})})
    return Answer(details.status, msgspec.json.encode(details), _PROBLEM, given)


_SLUGS: Final = {
    404: ("not-found", "There is no such path"),
    405: ("method-not-allowed", "This path has other methods"),
    408: ("request-timeout", "The body came too slowly"),
    415: ("unsupported-media-type", "A body is application/json"),
}


def of_http(error: HTTPException) -> Answer:
    """What only HTTP knows."""
    slug, title = _SLUGS[error.status_code]
    detail = error.detail if error.status_code not in (404, 405) else f"{title}: see /openapi.json"
    return problem(plain_problem(error.status_code, slug, title, detail), error.headers)


def unforeseen() -> Answer:
    """The error itself goes on to the log."""
    title = "This request failed in a way that was not foreseen"
    detail = "the router's log says how; whether anything happened is not known"
    details = plain_problem(500, "internal", title, detail)
    return problem(msgspec.structs.replace(details, definite=False))
