"""The ASGI application: requests in, one operation each, answers or problems out."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from hashlib import blake2b
from typing import Any, Final
from urllib.parse import unquote

import msgspec
from msgspec import Struct
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from holdfast.errors import (
    BadMessage,
    HoldfastError,
    InvalidArgument,
    Overloaded,
    TooLarge,
    Unavailable,
)
from holdfast.wire.errors import Forbidden
from holdfast.wire.limits import SECTION_BYTES_MAX
from holdfast.wire.tenants import OPERATOR

from ..admission.verdict import RATE, Standing
from ..directory import Gone
from ..metrics import MEDIA_TYPE as METRICS_MEDIA_TYPE
from ..operations import Caller, Operations
from ..operations.cancelling import uncancel
from ..operations.requests import LockState, Watch
from ..operations.watching import Shown
from . import docs_page, event_stream, openapi
from .endpoints import ENDPOINTS, Endpoint
from .idempotency import FirstAnswers, aged, request_id
from .problem_details import MEDIA_TYPE, ProblemDetails, details_of, plain_problem

BODY_BYTES_MAX: Final = SECTION_BYTES_MAX
BODY_S: Final = 10.0
"""Within which a body has to have come."""
REQUESTS_MAX: Final = 16_384
"""Under way at once; waiting for a lock counts."""
BUSY_RETRY_MS: Final = 1000

_HEADERS: Final = {"x-content-type-options": "nosniff", "cache-control": "no-store"}
_PAGE_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"


class Application:
    def __init__(
        self,
        operations: Operations,
        *,
        ready: Callable[[], bool],
        metrics: Callable[[], bytes],
        cors_origins: Iterable[str] = (),
    ) -> None:
        self._operations = operations
        self._ready = ready
        self._metrics = metrics
        self._first_answers = FirstAnswers(asyncio.get_running_loop().time)
        self._under_way: dict[asyncio.Task[Any], str] = {}
        """Requests, with the id of the API key that each came with."""
        self._ended: dict[asyncio.Task[Any], HoldfastError] = {}
        """Those of them that were told to end because their key is gone, and what they are told."""
        document = openapi.document()
        self._openapi = openapi.encoded(document)
        self._page = docs_page.page(document)
        by_path: dict[str, dict[str, Endpoint]] = {}
        for one in ENDPOINTS:
            by_path.setdefault(one.path, {})[one.method] = one
        # One route for all methods of a path, so that 405 names them all.
        routes = [Route(path, self._serves(ends), methods=list(ends)) for path, ends in by_path.items()]
        routes += [
            Route(event_stream.PATH, self._watch, methods=["GET"]),
            Route("/healthz", self._healthz, methods=["GET"]),
            Route("/readyz", self._readyz, methods=["GET"]),
            Route("/metrics", self._exposition, methods=["GET"]),
            Route("/openapi.json", self._document, methods=["GET"]),
            Route("/docs", self._docs, methods=["GET"]),
        ]
        origins = list(cors_origins)
        allowed = ["Authorization", "Content-Type", "Idempotency-Key", "If-None-Match"]
        cors = Middleware(CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=allowed)
        app = Starlette(
            routes=routes,
            middleware=[cors] if origins else [],
            exception_handlers={HTTPException: _on_http_exception, Exception: _on_failure},
        )
        app.router.redirect_slashes = False
        self.asgi: ASGIApp = _Encoded(app)

    def key_gone(self, gone: Gone) -> None:
        """These API keys are valid no more: whatever is under way under one of them ends, and is told why."""
        self._first_answers.key_gone(gone)
        for task, key in list(self._under_way.items()):
            if key in gone:
                self._ended[task] = gone[key]
                task.cancel()

    def close(self) -> None:
        self._first_answers.close()

    # Probes and pages.

    async def _healthz(self, request: Request) -> Response:
        return _json({"ok": True})

    async def _readyz(self, request: Request) -> Response:
        if self._ready():
            return _json({"ok": True})
        return _problem(details_of(Unavailable("this router does not reach its whole cluster")))

    async def _exposition(self, request: Request) -> Response:
        """They tell of all tenants: the operator's keys alone see them."""
        try:
            if self._operations.caller(_key_of(request), _address_of(request)).tenant != OPERATOR:
                raise Forbidden("metrics tell of all tenants: use a key of the operator")
        except HoldfastError as error:
            return _problem(details_of(error))
        return Response(await asyncio.to_thread(self._metrics), media_type=METRICS_MEDIA_TYPE, headers=_HEADERS)

    async def _document(self, request: Request) -> Response:
        return Response(self._openapi, media_type="application/json", headers=_HEADERS)

    async def _docs(self, request: Request) -> Response:
        return HTMLResponse(self._page, headers={**_HEADERS, "content-security-policy": _PAGE_POLICY})

    # Watching.

    async def _watch(self, request: Request) -> Response:
        try:
            caller = self._operations.caller(_key_of(request), _address_of(request))
            asked = _converted(_query(request), Watch)
            assert isinstance(asked, Watch)
            if len(self._under_way) >= REQUESTS_MAX:
                raise Overloaded(f"this router has {REQUESTS_MAX} requests under way", BUSY_RETRY_MS)
            states = await self._operations.watch(caller, asked)
        except HoldfastError as error:
            return _problem(details_of(error))
        headers = {**_HEADERS, **_rate_limit(self._operations.standing(caller))}
        return _Events(self._shown(request, caller, states), states, headers)

    async def _shown(self, request: Request, caller: Caller, states: Shown) -> AsyncIterator[bytes]:
        task = asyncio.current_task()
        assert task is not None, "a response is written in a task"
        self._under_way[task] = caller.principal.key
        try:
            self._operations.caller(_key_of(request))  # which may have ended before this began
            async for piece in event_stream.events(states):
                yield piece
        except HoldfastError as error:
            yield event_stream.event("problem", details_of(error))
        except asyncio.CancelledError:
            gone = self._ended.get(task)
            if gone is None:
                raise
            uncancel()
            yield event_stream.event("problem", details_of(gone))
        finally:
            self._ended.pop(task, None)
            del self._under_way[task]

    # Operations.

    def _serves(self, endpoints: dict[str, Endpoint]) -> Callable[[Request], Awaitable[Response]]:
        async def serve(request: Request) -> Response:
            method = "GET" if request.method == "HEAD" else request.method
            try:
                return await self._serve(endpoints[method], request)
            except HoldfastError as error:
                return _problem(details_of(error))

        return serve

    async def _serve(self, endpoint: Endpoint, request: Request) -> Response:
        if len(self._under_way) >= REQUESTS_MAX:
            raise Overloaded(f"this router has {REQUESTS_MAX} requests under way", BUSY_RETRY_MS)
        task = asyncio.current_task()
        assert task is not None, "a request is served in a task"
        caller = self._operations.caller(_key_of(request), _address_of(request))
        self._under_way[task] = caller.principal.key
        try:
            response = await self._answered(endpoint, request, caller)
            response.headers.update(_rate_limit(self._operations.standing(caller)))
            return response
        except asyncio.CancelledError:
            uncancel()
            raise self._ended.get(task) or Unavailable("this router stops: the request was ended") from None
        finally:
            self._ended.pop(task, None)
            del self._under_way[task]

    async def _answered(self, endpoint: Endpoint, request: Request, caller: Caller) -> Response:
        try:
            asked = await _asked(endpoint, request)
            key = request.headers.get("idempotency-key") if endpoint.changes else None
            if key is not None:
                answer, age_ms = await self._once(endpoint, caller, key, asked)
                return _answer(endpoint, request, aged(answer, age_ms), replayed=age_ms > 0)
            return _answer(endpoint, request, await self._carry_out(endpoint, request, caller, asked))
        except HoldfastError as error:
            return _problem(details_of(error))
        except HTTPException as error:
            return await _on_http_exception(request, error)

    async def _once(self, endpoint: Endpoint, caller: Caller, key: str, asked: Struct) -> tuple[Struct, float]:
        request = request_id(caller.principal, key)
        mine = msgspec.structs.replace(caller, request=request)
        return await self._first_answers.once(
            request, caller.principal.key, endpoint.id, asked, lambda: endpoint.carry_out(self._operations, mine, asked)
        )

    async def _carry_out(self, endpoint: Endpoint, request: Request, caller: Caller, asked: Struct) -> Struct:
        """What takes long is taken back when nobody listens any more."""
        if not endpoint.waits:
            return await endpoint.carry_out(self._operations, caller, asked)
        carrying = asyncio.ensure_future(endpoint.carry_out(self._operations, caller, asked))
        listening = asyncio.ensure_future(request.receive())
        try:
            await asyncio.wait((carrying, listening), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if not carrying.done():
                raise
            uncancel()  # what was had is told: nobody else would let go of it
        finally:
            listening.cancel()
            carrying.cancel()
        if not carrying.done():
            raise Unavailable("nobody waits for this any more")
        return carrying.result()


class _Events(StreamingResponse):
    """Watches no longer than it is written, and not at all if nobody is there to read the beginning."""

    def __init__(self, pieces: AsyncIterator[bytes], states: Shown, headers: dict[str, str]) -> None:
        super().__init__(pieces, 200, headers, event_stream.MEDIA_TYPE)
        self._states = states

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._states):
            await super().__call__(scope, receive, send)


class _Encoded:
    """Routes by the path as it was sent: a name is one segment of it, whatever is in the name."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "path": scope["raw_path"].decode("ascii", "replace")}
        await self._app(scope, receive, send)


# Reading.


def _address_of(request: Request) -> str:
    return request.client.host if request.client is not None else ""


def _key_of(request: Request) -> str:
    """The API key; empty, which is nobody's, when there is none."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _address_of(request: Request) -> str:
    return request.client.host if request.client is not None else ""


async def _asked(endpoint: Endpoint, request: Request) -> Struct:
    fields: dict[str, Any] = {}
    if endpoint.query is not None:
        fields |= _fields(_converted(_query(request), endpoint.query, strict=False))
    if endpoint.body is not None:
        body = await _body(request)
        try:
            said: Struct = msgspec.json.decode(body or b"{}", type=endpoint.body)
        except msgspec.ValidationError as error:
            raise InvalidArgument(str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadMessage(f"the body is no JSON: {error}") from None
        if endpoint.body is endpoint.asked:
            return said
        fields |= _fields(said)
    try:
        fields |= {name: unquote(text, errors="strict") for name, text in request.path_params.items()}
    except UnicodeDecodeError:
        raise InvalidArgument("a name in a path is percent-encoded UTF-8") from None
    return _converted(fields, endpoint.asked)


def _query(request: Request) -> dict[str, str]:
    given = request.query_params
    if len(given.multi_items()) != len(given):
        raise InvalidArgument("each parameter of the query may be given once")
    return dict(given)


def _fields(value: Struct) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__struct_fields__}


def _converted(fields: dict[str, Any], kind: type[Struct], *, strict: bool = True) -> Struct:
    try:
        return msgspec.convert(fields, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise InvalidArgument(str(error)) from None


async def _body(request: Request) -> bytes:
    if request.headers.get("content-encoding", "identity") != "identity":
        raise HTTPException(415, "a body is not compressed")
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.stream():
                size += len(part)
                if size > BODY_BYTES_MAX:
                    raise TooLarge(f"a body has at most {BODY_BYTES_MAX} bytes")
                parts.append(part)
    except TimeoutError:
        raise HTTPException(408, f"a body comes within {BODY_S:g} s") from None
    except ClientDisconnect:
        raise BadMessage("the connection ended before the body was whole") from None
    if parts and any(parts):
        media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media != "application/json":
            raise HTTPException(415, "a body is application/json: say so with Content-Type")
    return b"".join(parts)


# Writing.


def _answer(endpoint: Endpoint, request: Request, answer: Struct, *, replayed: bool = False) -> Response:
    headers = {"idempotent-replayed": "true"} if replayed else {}
    if isinstance(answer, LockState):
        tag = headers["etag"] = _tag(answer)
        if request.method == "GET" and tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers={**_HEADERS, **headers})
    return _json(answer, endpoint.status, headers)


def _rate_limit(standing: Standing) -> dict[str, str]:
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
        [[one.token, one.mode, one.permits, one.leaving, one.count] for one in state.holders],
    ]
    return f'W/"{blake2b(msgspec.msgpack.encode(lasting), digest_size=12).hexdigest()}"'


def _json(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    body = msgspec.json.encode(value)
    return Response(body, status, {**_HEADERS, **(headers or {})}, media_type="application/json")


def _problem(details: ProblemDetails, headers: dict[str, str] | None = None) -> Response:
    given = {**_HEADERS, **details.headers, **(headers or {})}
    return Response(msgspec.json.encode(details), details.status, given, media_type=MEDIA_TYPE)


_SLUGS: Final = {
    404: ("not-found", "There is no such path"),
    405: ("method-not-allowed", "This path has other methods"),
    408: ("request-timeout", "The body came too slowly"),
    415: ("unsupported-media-type", "A body is application/json"),
}


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    slug, title = _SLUGS.get(error.status_code, ("bad-request", "The request cannot be read"))
    detail = error.detail if error.status_code not in (404, 405) else f"{title}: see /openapi.json"
    return _problem(plain_problem(error.status_code, slug, title, detail), dict(error.headers or {}))


async def _on_failure(request: Request, error: Exception) -> Response:
    """What was not foreseen; it goes on to the log."""
    title = "This request failed in a way that was not foreseen"
    detail = "the router's log says how; whether anything happened is not known"
    problem = plain_problem(500, "internal", title, detail)
    return _problem(msgspec.structs.replace(problem, definite=False))
