"""``GET /v1/watch``: how locks look, now and after every change, as server-sent events (WHATWG HTML, 9.2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final

import msgspec

from holdfast.errors import HoldfastError

from ..operations.requests import LockState
from .problem_details import details_of

PATH: Final = "/v1/watch"
MEDIA_TYPE: Final = "text/event-stream"
RECONNECT_MS: Final = 1000
"""When a browser comes again after its connection was lost; it is then shown everything anew."""
PULSE_S: Final = 15.0
"""Comment in between, so that nobody on the way takes the connection for idle, and one that is gone is noticed."""


async def events(states: AsyncIterator[LockState]) -> AsyncGenerator[bytes, None]:
    """Ends with an event ``problem`` when the watch cannot go on."""
    yield f"retry: {RECONNECT_MS}\n\n".encode()
    coming: asyncio.Future[LockState] = asyncio.ensure_future(anext(states))
    try:
        while True:
            await asyncio.wait((coming,), timeout=PULSE_S)
            if not coming.done():
                yield b":\n\n"
                continue
            yield event("lock", coming.result())
            coming = asyncio.ensure_future(anext(states))
    except HoldfastError as error:
        yield event("problem", details_of(error))
    finally:
        coming.cancel()


def event(name: str, value: object) -> bytes:
    """JSON has no line breaks, so that each is one line of data."""
    return f"event: {name}\ndata: ".encode() + msgspec.json.encode(value) + b"\n\n"


def described(lock_state: dict[str, str], example: dict[str, object], refused: dict[str, Any]) -> dict[str, Any]:
    """The path's entry in the OpenAPI document."""
    text = {"type": "string", "maxLength": 512}
    return {
        "get": {
            "operationId": "watch",
            "summary": "Watch a lock, or all under a prefix: server-sent events",
            "description": "Events `lock` carry a LockState each: first how it looks now, then after every change; "
            "several changes in quick succession may be shown as one. Under a prefix, what is free again is shown once "
            "so. Each connection begins anew: forget what an earlier one showed. An event `problem` is the last one.",
            "tags": ["locks"],
            "parameters": [
                {
                    "name": "name",
                    "in": "query",
                    "required": False,
                    "schema": text,
                    "description": "One lock; or prefix, not both.",
                },
                {
                    "name": "prefix",
                    "in": "query",
                    "required": False,
                    "schema": text,
                    "description": "Every lock that begins so.",
                },
            ],
            "responses": {
                "200": {
                    "description": "Events, without an end",
                    "content": {MEDIA_TYPE: {"schema": lock_state, "example": example}},
                },
                **refused,
            },
        }
    }
