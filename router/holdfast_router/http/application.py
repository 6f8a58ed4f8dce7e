"""The ASGI application: requests in, one operation each, answers or problems out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from functools import partial
from typing import Any, Final

import msgspec
from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import HTMLResponse, Response, StreamingResponse
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
from .paths import Paths
from .problem_details import details_of
from .replays import told_again
from .request import Request
from .responses import Answer

REQUESTS_MAX: Final = 16_384
"""Under way at once; waiting for a lock counts."""

_SHOWN: Final = ["ETag", "Idempotent-Replayed", "RateLimit", "RateLimit-Policy", "Retry-After", "WWW-Authenticate"]
"""Fields of answers that pages of other origins may read."""

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
        self._paths = Paths()
        for one in ENDPOINTS:
            self._paths.add(one.method, one.path, partial(self._serve, one))
        self._paths.add("GET", event_stream.PATH, self._watch)
        self._paths.add("GET", "/healthz", self._healthz)
        self._paths.add("GET", "/readyz", self._readyz)
        self._paths.add("GET", "/metrics", self._exposition)
        self._paths.add("GET", "/openapi.json", self._document)
        self._paths.add("GET", "/docs", self._docs)
        origins = list(cors_origins)
        self.asgi: ASGIApp = self._respond
        if origins:
            self.asgi = CORSMiddleware(
                self._respond,
                allow_origins=origins,
                allow_methods=["DELETE", "GET", "HEAD", "POST"],
                allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "If-None-Match"],
                expose_headers=_SHOWN,
            )

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._response(scope, receive)
        except Exception:
            await responses.unforeseen()(scope, receive, send)
            raise
        await response(scope, receive, send)

    async def _response(self, scope: Scope, receive: Receive) -> ASGIApp:
        # A head that came at once is looked at here: while one comes, the connection does.
        path: bytes = scope["raw_path"]
        size = len(path) + len(scope["query_string"])
        for name, value in scope["headers"]:
            size += len(name) + len(value)
        if size > HEADER_BYTES_MAX:
            return responses.problem(HEAD_TOO_LARGE)
        try:
            handler, params = self._paths.find(scope["method"], path.decode("ascii", "replace"))
            return await handler(Request(scope, receive, params))
        except HoldfastError as error:
            return responses.refused(error)
        except HTTPException as error:
            return responses.of_http(error)

    def key_gone(self, gone: Gone) -> None:
        """These API keys are valid no more: whatever is under way under one of them ends, and is told why."""
        self._first_answers.key_gone(gone)
        for task, key in list(self._under_way.items()):
            if key in gone:
                self._end(task, gone[key])

    def close(self) -> None:
        self._first_answers.close()

    # Probes and pages.

    def _caller(self, request: Request) -> Caller:
        return self._operations.caller(reading.key_of(request), request.address)

    async def _healthz(self, request: Request) -> ASGIApp:
        return responses.json_of({"ok": True})

    async def _readyz(self, request: Request) -> ASGIApp:
        if not self._ready():
            raise Unavailable("this router does not reach its whole cluster")
        return responses.json_of({"ok": True})

    async def _exposition(self, request: Request) -> ASGIApp:
        """They tell of all tenants: the operator's keys alone see them."""
        if self._caller(request).tenant != OPERATOR:
            raise Forbidden("metrics tell of all tenants: use a key of the operator")
        return Response(
            await asyncio.to_thread(self._metrics), media_type=METRICS_MEDIA_TYPE, headers=responses.HEADERS
        )

    async def _document(self, request: Request) -> ASGIApp:
        return Answer(200, self._openapi)

    async def _docs(self, request: Request) -> ASGIApp:
        return HTMLResponse(self._page, headers={**responses.HEADERS, "content-security-policy": _PAGE_POLICY})

    # Watching.

    async def _watch(self, request: Request) -> ASGIApp:
        caller = self._caller(request)
        asked = reading.query(request, Watch)
        assert isinstance(asked, Watch)
        with self._presence.of(caller.tenant, exempt=False):
            states = await self._operations.watch(caller, asked)
        told = responses.rate_limit(self._operations.standing(caller))
        return _Events(self._shown(request, caller, states), states, {**responses.HEADERS, **responses.decoded(told)})

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

    async def _serve(self, endpoint: Endpoint, request: Request) -> ASGIApp:
        task = asyncio.current_task()
        assert task is not None, "a request is served in a task"
        caller = self._caller(request)
        self._under_way[task] = caller.principal.key
        try:
            with self._presence.of(caller.tenant, exempt=endpoint.exempt):
                answer = await self._answered(endpoint, request, caller, task)
            answer.add(responses.rate_limit(self._operations.standing(caller)))
            return answer
        finally:
            self._ended.pop(task, None)
            del self._under_way[task]

    async def _answered(self, endpoint: Endpoint, request: Request, caller: Caller, task: asyncio.Task[Any]) -> Answer:
        asked: Struct | None = None
        try:
            came_whole = request.has_come
            asked = await reading.typed(endpoint, request)
            if not came_whole:
                caller = caller.heard()
            if endpoint.changes and request.has(b"idempotency-key"):
                key = request.field(b"idempotency-key")
                answer, age_ms = await self._once(endpoint, caller, key, asked)
                if age_ms:
                    answer = await told_again(self._operations, caller, answer, age_ms)
                return responses.answer(endpoint, request, answer, replayed=age_ms > 0)
            return responses.answer(endpoint, request, await self._carry_out(endpoint, request, caller, asked, task))
        except asyncio.CancelledError:
            uncancel()
            ended = self._ended.get(task) or Unavailable("this router stops: the request was ended")
            return responses.refused(ended, definite=endpoint.is_taken_back(asked))
        except HoldfastError as error:
            was_cut_off = error is self._ended.get(task)  # by whatever was carrying it out for several copies
            return responses.refused(error, definite=not was_cut_off or endpoint.is_taken_back(asked))
        except HTTPException as error:
            return responses.of_http(error)

    async def _once(self, endpoint: Endpoint, caller: Caller, key: str, asked: Struct) -> tuple[Struct, float]:
        mine = msgspec.structs.replace(caller, request=request_id(caller.principal, key))
        return await self._first_answers.once(
            mine, endpoint.id, asked, lambda: endpoint.carry_out(self._operations, mine, asked)
        )

    async def _carry_out(
        self, endpoint: Endpoint, request: Request, caller: Caller, asked: Struct, task: asyncio.Task[Any]
    ) -> Struct:
        """What takes long is taken back when nobody listens any more."""
        if not endpoint.waits:
            return await endpoint.carry_out(self._operations, caller, asked)
        line = request.line
        line.when_gone(partial(self._end, task, Unavailable("nobody waits for this any more")))
        try:
            return await endpoint.carry_out(self._operations, caller, asked)
        finally:
            line.when_gone(None)

    def _end(self, task: asyncio.Task[Any], why: HoldfastError) -> None:
        self._ended[task] = why
        task.cancel()


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
