"""What is answered: results, and problems where there is none, with the header fields that go along."""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import Final

import msgspec
from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from holdfast.errors import HoldfastError

from ..admission.verdict import RATE, Standing
from ..operations.requests import LockState
from .endpoints import Endpoint
from .problem_details import MEDIA_TYPE, ProblemDetails, details_of, plain_problem

HEADERS: Final = {"x-content-type-options": "nosniff", "cache-control": "no-store"}
"""Of every answer."""


def answer(endpoint: Endpoint, request: Request, answer: Struct, *, replayed: bool = False) -> Response:
    headers = {"idempotent-replayed": "true"} if replayed else {}
    if isinstance(answer, LockState):
        tag = headers["etag"] = _tag(answer)
        known = request.headers.get("if-none-match", "")
        # Compared weakly (RFC 9110, 13.1.2): whether a tag is called weak does not matter.
        if known.strip() == "*" or tag.removeprefix("W/") in known:
            return Response(status_code=304, headers={**HEADERS, **headers})
    return json_of(answer, endpoint.status, headers)


def rate_limit(standing: Standing) -> dict[str, str]:
    """The ``RateLimit`` header fields (draft-ietf-httpapi-ratelimit-headers), in operations."""
    window_s = max(math.ceil(standing.burst / standing.limit), 1) if standing.limit else 1
    return {
        "ratelimit-policy": f'"{RATE}";q={standing.burst};w={window_s}',
        "ratelimit": f'"{RATE}";r={max(standing.remaining, 0)};t={math.ceil(standing.reset_s)}',
    }


def _tag(state: LockState) -> str:
    """Weak: of all but what passes by itself, ages and remaining times."""
    lasting = [
        [state.name, state.holder_count, state.waiters, state.capacity, state.closed_ms > 0],
        [[one.token, one.mode, one.permits, one.session_id, one.leaving, one.count] for one in state.holders],
    ]
    return f'W/"{blake2b(msgspec.msgpack.encode(lasting), digest_size=12).hexdigest()}"'


def json_of(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    body = msgspec.json.encode(value)
    return Response(body, status, {**HEADERS, **(headers or {})}, media_type="application/json")


def refused(error: HoldfastError, *, definite: bool = True) -> Response:
    """``definite``: False when something may have been done all the same."""
    details = details_of(error)
    return problem(details if definite else msgspec.structs.replace(details, definite=False))


def problem(details: ProblemDetails, headers: dict[str, str] | None = None) -> Response:
    given = {**HEADERS, **details.headers, **(headers or {})}
    return Response(msgspec.json.encode(details), details.status, given, media_type=MEDIA_TYPE)


_SLUGS: Final = {
    404: ("not-found", "There is no such path"),
    405: ("method-not-allowed", "This path has other methods"),
    408: ("request-timeout", "The body came too slowly"),
    415: ("unsupported-media-type", "A body is application/json"),
}


async def on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    slug, title = _SLUGS.get(error.status_code, ("bad-request", "The request cannot be read"))
    detail = error.detail if error.status_code not in (404, 405) else f"{title}: see /openapi.json"
    return problem(plain_problem(error.status_code, slug, title, detail), dict(error.headers or {}))


async def on_failure(request: Request, error: Exception) -> Response:
    """What was not foreseen; it goes on to the log."""
    title = "This request failed in a way that was not foreseen"
    detail = "the router's log says how; whether anything happened is not known"
    details = plain_problem(500, "internal", title, detail)
    return problem(msgspec.structs.replace(details, definite=False))
