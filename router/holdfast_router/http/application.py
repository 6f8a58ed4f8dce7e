"""The ASGI application: requests in, one operation each, answers or problems out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Any, Final

import msgspec
from msgspec import Struct
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from holdfast.errors import HoldfastError, Unavailable
from holdfast.wire.errors import Forbidden
from holdfast.wire.tenants import OPERATOR

from ..directory import Gone
from ..metrics import MEDIA_TYPE as METRICS_MEDIA_TYPE
from ..operations import Caller, Operations
from ..operations.cancelling import uncancel
from ..operations.presence import Presence
from ..operations.requests import Watch
from ..operations.watching import Shown
from . import docs_page, event_stream, openapi, reading, responses
from .connection import HEAD_TOO_LARGE, HEADER_BYTES_MAX
from .endpoints import ENDPOINTS, Endpoint
from .idempotency import FirstAnswers, request_id
from .problem_details import details_of
from .replays import told_again

REQUESTS_MAX: Final = 16_384
"""Under way at once; waiting for a lock counts."""

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
        self._first_answers = FirstAnswers()
        self._presence = Presence(REQUESTS_MAX)
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
        shown = ["ETag", "Idempotent-Replayed", "RateLimit", "RateLimit-Policy", "Retry-After", "WWW-Authenticate"]
        cors = Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["DELETE", "GET", "HEAD", "POST"],
            allow_headers=allowed,
            expose_headers=shown,
        )
        app = Starlette(
            routes=routes,
            middleware=[cors] if origins else [],
            exception_handlers={HTTPException: responses.on_http_exception, Exception: responses.on_failure},
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
        return responses.json_of({"ok": True})

    async def _readyz(self, request: Request) -> Response:
        if self._ready():
            return responses.json_of({"ok": True})
        return responses.refused(Unavailable("this router does not reach its whole cluster"))

    async def _exposition(self, request: Request) -> Response:
        """They tell of all tenants: the operator's keys alone see them."""
        try:
            if self._operations.caller(reading.key_of(request), reading.address_of(request)).tenant != OPERATOR:
                raise Forbidden("metrics tell of all tenants: use a key of the operator")
        except HoldfastError as error:
            return responses.refused(error)
        return Response(
            await asyncio.to_thread(self._metrics), media_type=METRICS_MEDIA_TYPE, headers=responses.HEADERS
        )

    async def _document(self, request: Request) -> Response:
        return Response(self._openapi, media_type="application/json", headers=responses.HEADERS)

    async def _docs(self, request: Request) -> Response:
        return HTMLResponse(self._page, headers={**responses.HEADERS, "content-security-policy": _PAGE_POLICY})

    # Watching.

    async def _watch(self, request: Request) -> Response:
        try:
            caller = self._operations.caller(reading.key_of(request), reading.address_of(request))
            asked = reading.query(request, Watch)
            assert isinstance(asked, Watch)
            with self._presence.of(caller.tenant, exempt=False):
                states = await self._operations.watch(caller, asked)
        except HoldfastError as error:
            return responses.refused(error)
        headers = {**responses.HEADERS, **responses.rate_limit(self._operations.standing(caller))}
        return _Events(self._shown(request, caller, states), states, headers)

    async def _shown(self, request: Request, caller: Caller, states: Shown) -> AsyncGenerator[bytes, None]:
        task = asyncio.current_task()
        assert task is not None, "a response is written in a task"
        self._under_way[task] = caller.principal.key
        try:
            self._operations.caller(reading.key_of(request))  # which may have ended before this began
            with self._presence.of(caller.tenant, exempt=False):
                async with aclosing(event_stream.events(states)) as pieces:
                    async for piece in pieces:
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
                return responses.refused(error)

        return serve

    async def _serve(self, endpoint: Endpoint, request: Request) -> Response:
        task = asyncio.current_task()
        assert task is not None, "a request is served in a task"
        caller = self._operations.caller(reading.key_of(request), reading.address_of(request))
        self._under_way[task] = caller.principal.key
        try:
            with self._presence.of(caller.tenant, exempt=endpoint.exempt):
                response = await self._answered(endpoint, request, caller, task)
            response.headers.update(responses.rate_limit(self._operations.standing(caller)))
            return response
        finally:
            self._ended.pop(task, None)
            del self._under_way[task]

    async def _answered(
        self, endpoint: Endpoint, request: Request, caller: Caller, task: asyncio.Task[Any]
    ) -> Response:
        asked: Struct | None = None
        try:
            asked = await reading.typed(endpoint, request)
            caller = caller.heard()
            key = request.headers.get("idempotency-key") if endpoint.changes else None
            if key is not None:
                answer, age_ms = await self._once(endpoint, caller, key, asked)
                if age_ms:
                    answer = await told_again(self._operations, caller, answer, age_ms)
                return responses.answer(endpoint, request, answer, replayed=age_ms > 0)
            return responses.answer(endpoint, request, await self._carry_out(endpoint, request, caller, asked))
        except asyncio.CancelledError:
            uncancel()
            ended = self._ended.get(task) or Unavailable("this router stops: the request was ended")
            return responses.refused(ended, definite=endpoint.is_taken_back(asked))
        except HoldfastError as error:
            was_cut_off = error is self._ended.get(task)  # by whatever was carrying it out for several copies
            return responses.refused(error, definite=not was_cut_off or endpoint.is_taken_back(asked))
        except HTTPException as error:
            return await responses.on_http_exception(request, error)

    async def _once(self, endpoint: Endpoint, caller: Caller, key: str, asked: Struct) -> tuple[Struct, float]:
        mine = msgspec.structs.replace(caller, request=request_id(caller.principal, key))
        return await self._first_answers.once(
            mine, endpoint.id, asked, lambda: endpoint.carry_out(self._operations, mine, asked)
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

    def __init__(self, pieces: AsyncGenerator[bytes, None], states: Shown, headers: dict[str, str]) -> None:
        super().__init__(pieces, 200, headers, event_stream.MEDIA_TYPE)
        self._pieces = pieces
        self._states = states

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Pieces first: they may be waiting for the next state.
        async with aclosing(self._states), aclosing(self._pieces):
            await super().__call__(scope, receive, send)


class _Encoded:
    """Routes by the path as it was sent: a name is one segment of it, whatever is in the name.

    The length of a head that came at once is looked at here: while it comes, the connection does.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "path": scope["raw_path"].decode("ascii", "replace")}
            sizes = (len(name) + len(value) for name, value in scope["headers"])
            if len(scope["raw_path"]) + len(scope["query_string"]) + sum(sizes) > HEADER_BYTES_MAX:
                await responses.problem(HEAD_TOO_LARGE)(scope, receive, send)
                return
        await self._app(scope, receive, send)
