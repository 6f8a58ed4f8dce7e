"""SessionService: each rpc is one operation of ``operations``, and Attach a stream of keepalives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import msgspec

from holdfast.clock import boottime_ms
from holdfast.errors import InvalidArgument, OutcomeUnknown, Overloaded, Unavailable
from holdfast.v1 import sessions_pb2 as pb
from holdfast.v1.types_pb2 import HeldLocks
from holdfast.wire.errors import Throttled

from ..operations import Caller, Operations
from ..operations.requests import SessionGrant, SessionKept
from . import translation
from .calls import request_of
from .statuses import duration_of

RENEWALS_PER_TTL: Final = 3
AGAIN_S: Final = 0.5
"""Pause after a keepalive of ours that came to nothing for now."""


class SessionService:
    DESCRIPTOR = pb.DESCRIPTOR.services_by_name["SessionService"]

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    @property
    def methods(self) -> dict[str, Callable[..., Any]]:
        return {
            "Create": self.create,
            "KeepAlive": self.keep_alive,
            "Attach": self.attach,
            "End": self.end,
            "ListSessions": self.list_sessions,
        }

    async def create(self, caller: Caller, message: pb.CreateRequest) -> pb.CreateResponse:
        named = msgspec.structs.replace(caller, request=request_of(caller, message.request_id))
        session = await self._operations.create_session(named, translation.create_session(message))
        return pb.CreateResponse(session=session.session, id=session.id, expires_in=duration_of(session.expires_in_ms))

    async def keep_alive(self, caller: Caller, message: pb.KeepAliveRequest) -> pb.KeepAliveResponse:
        kept = await self._operations.keep_session(caller, translation.keep_session(message.session, message.seen))
        expires_in = duration_of(kept.expires_in_ms)
        return pb.KeepAliveResponse(expires_in=expires_in, seen=kept.seen, held=translation.held_of(kept))

    async def end(self, caller: Caller, message: pb.EndRequest) -> pb.EndResponse:
        await self._operations.end_session(caller, translation.end_session(message.session))
        return pb.EndResponse()

    async def list_sessions(self, caller: Caller, message: pb.ListSessionsRequest) -> pb.ListSessionsResponse:
        page = await self._operations.list_sessions(caller, translation.list_sessions(message))
        parts = [translation.part_of(part) for part in page.sessions]
        return pb.ListSessionsResponse(parts=parts, next_page_token=page.cursor)

    async def attach(
        self, caller: Caller, messages: AsyncIterator[pb.AttachRequest]
    ) -> AsyncIterator[pb.AttachResponse]:
        first = await anext(messages, None)
        if first is None:
            raise InvalidArgument("the first message of Attach says which session")
        # A stream may be opened long before anything is said on it.
        caller = caller.heard()
        if first.session:
            asked = translation.keep_session(first.session)
            session: SessionGrant = await self._operations.keep_session(caller, asked)
        else:
            session = await self._operations.create_session(caller, translation.create_session(first))
        attached = _Attached(self._operations, caller, session, first.number)
        async for response in attached.responses(messages):
            yield response


class _Attached:
    """A session that is kept alive while its stream is open."""

    def __init__(self, operations: Operations, caller: Caller, session: SessionGrant, number: int) -> None:
        self._operations = operations
        self._caller = caller
        """With the arrival of the latest message: what is told counts from that one."""
        self._session = session.session
        self._pause_s = session.ttl_ms / 1000 / RENEWALS_PER_TTL
        self._number = number
        self._until_ms = caller.arrived_ms + session.expires_in_ms
        self._seen = ""
        self._held: HeldLocks | None = None
        """What the next response has to tell."""
        if isinstance(session, SessionKept):
            self._note(session)

    def _note(self, kept: SessionKept) -> None:
        self._seen = kept.seen
        held = translation.held_of(kept)
        if held is not None:
            self._held = held

    def _response(self) -> pb.AttachResponse:
        expires_in = duration_of(self._caller.expires_in_ms(self._until_ms))
        held, self._held = self._held, None
        return pb.AttachResponse(session=self._session, expires_in=expires_in, number=self._number, held=held)

    async def responses(self, messages: AsyncIterator[pb.AttachRequest]) -> AsyncIterator[pb.AttachResponse]:
        yield self._response()
        pause_s = self._pause_s
        coming = asyncio.ensure_future(anext(messages, None))
        try:
            while True:
                await asyncio.wait([coming], timeout=pause_s)
                if coming.done():
                    message = coming.result()
                    if message is None:
                        return
                    if message.end:
                        await self._operations.end_session(self._caller, translation.end_session(self._session))
                        return
                    self._heard(message)
                    coming = asyncio.ensure_future(anext(messages, None))
                pause_s = self._pause_s if await self._keep() else min(AGAIN_S, self._pause_s)
                yield self._response()
        finally:
            coming.cancel()

    def _heard(self, message: pb.AttachRequest) -> None:
        if message.session not in ("", self._session):
            raise InvalidArgument("a stream keeps one session alive: open another stream for another")
        self._number = message.number
        self._caller = self._caller.heard()

    async def _keep(self) -> bool:
        """Whether it was extended. What may pass is waited out, for as long as the session may still live."""
        try:
            asked = translation.keep_session(self._session, self._seen)
            kept = await self._operations.keep_session(self._caller, asked)
        except (Unavailable, OutcomeUnknown, Overloaded, Throttled):
            if boottime_ms() >= self._until_ms:
                raise
            return False
        self._until_ms = self._caller.arrived_ms + kept.expires_in_ms
        self._note(kept)
        return True
