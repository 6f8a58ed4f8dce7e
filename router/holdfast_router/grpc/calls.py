"""What every call has in common: who calls, how its message is read, how its error is told, and what ends it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from typing import Any, Final
from urllib.parse import unquote

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from holdfast.errors import BadMessage, HoldfastError, InvalidArgument, Overloaded, Unauthenticated
from holdfast.v1.locks_pb2 import AcquireRequest
from holdfast.wire.crowd import Crowd
from holdfast.wire.limits import BUSY_RETRY_MS

from ..directory import Directory, Gone
from ..operations import Caller, Operations
from ..operations.cancelling import uncancel
from ..operations.presence import Presence
from .statuses import DETAILS, details_of, message_of, status_of

LOOKS: Final = ("Get", "List", "Check", "Watch")
"""How the names of rpcs begin that change nothing."""
EXEMPT: Final = ("Release", "Renew", "KeepAlive", "End")
"""Rpcs that holders need to keep or to let go of what they have."""
BEARER: Final = "bearer "
REQUEST_ID_CHARS_MAX: Final = 255
MESSAGE_S: Final = 30.0
"""Within which a caller with a key has sent the message of a call that has one; until then it holds a place."""
FIRST_MESSAGE_S: Final = 1.0
"""How long a call that is refused is kept for its first message."""
STRANGERS_MAX: Final = 1_000
STRANGERS_PER_ADDRESS_MAX: Final = 100
"""Calls that are kept so together, in all and of one address; others are refused at once."""

Context = Any
"""``grpc.aio.ServicerContext``: generic, which nothing here needs."""
Unary = Callable[[Caller, Any], Awaitable[Message]]
Streamed = Callable[[Caller, Any], AsyncIterator[Message]]

log = logging.getLogger("holdfast.router")


class _Unreadable:
    """In the place of a message that could not be read: the library would call it our internal error."""


class _CutOff(Exception):
    """A call was ended while it was under way."""

    def __init__(self, why: HoldfastError) -> None:
        super().__init__(why)
        self.why = why


class Calls:
    """Runs the calls of all services. Those of a key that is valid no more end at once."""

    def __init__(self, operations: Operations, directory: Directory, crowd: Crowd, presence: Presence) -> None:
        """``crowd`` and ``presence`` count calls under way, by address and by tenant."""
        self._operations = operations
        self._crowd = crowd
        self._presence = presence
        self._strangers = Crowd(STRANGERS_MAX, STRANGERS_PER_ADDRESS_MAX)
        self._under_way: dict[str, dict[asyncio.Task[Any], None]] = {}
        self._ended: dict[asyncio.Task[Any], HoldfastError] = {}
        directory.on_gone(self._on_gone)

    def _on_gone(self, gone: Gone) -> None:
        for key, error in gone.items():
            for task in self._under_way.get(key, ()):
                self._ended[task] = error
                task.cancel()

    # Handlers.

    def handlers(self, service: ServiceDescriptor, methods: dict[str, Callable[..., Any]]) -> grpc.GenericRpcHandler:
        """``methods``: by the rpc's name. Those that answer a stream are async generators."""
        table = {name: self._handler(service.methods_by_name[name], method) for name, method in methods.items()}
        return grpc.method_handlers_generic_handler(service.full_name, table)

    def _handler(self, method: MethodDescriptor, run: Callable[..., Any]) -> grpc.RpcMethodHandler[Any, Any]:
        """For the library every caller sends a stream, also of one message: it calls at once then, and who opens a call
        and says nothing on it is counted from the beginning."""
        read = reader(GetMessageClass(method.input_type))
        write = GetMessageClass(method.output_type).SerializeToString
        if method.server_streaming:
            return grpc.stream_stream_rpc_method_handler(self._stream(method, run), read, write)
        return grpc.stream_unary_rpc_method_handler(self._unary(method, run), read, write)

    def _unary(self, method: MethodDescriptor, run: Unary) -> Callable[[Any, Context], Awaitable[Message]]:
        async def handle(given: Any, context: Context) -> Message:
            message = None
            try:
                caller = await self._caller(context)
                with self._noted(caller, exempt=method.name in EXEMPT):
                    message = await first_of(context, MESSAGE_S)
                    return await run(caller.heard(), message)
            except BaseException as error:
                await self._abort(context, error, taken_back=message is None or is_taken_back(method, message))
                raise

        return handle

    def _stream(self, method: MethodDescriptor, run: Streamed) -> Callable[[Any, Context], AsyncIterator[Message]]:
        async def handle(given: Any, context: Context) -> AsyncIterator[Message]:
            try:
                caller = await self._caller(context)
                with self._noted(caller, exempt=method.name in EXEMPT):
                    asked = each_readable(given) if method.client_streaming else await first_of(context, MESSAGE_S)
                    async for message in run(caller.heard(), asked):
                        yield message
            except GeneratorExit:
                raise
            except BaseException as error:
                await self._abort(context, error, taken_back=is_taken_back(method, given))
                raise

        return handle

    @contextmanager
    def _noted(self, caller: Caller, *, exempt: bool) -> Iterator[None]:
        task = asyncio.current_task()
        assert task is not None
        key = caller.principal.key
        counted = self._crowd.enter(caller.address)
        if not counted and not exempt:
            raise Overloaded("too many calls are under way from this address", BUSY_RETRY_MS)
        self._under_way.setdefault(key, {})[task] = None
        try:
            with self._presence.of(caller.tenant, exempt=exempt):
                yield
        except asyncio.CancelledError:
            error = self._ended.get(task)
            if error is None:
                raise
            uncancel()
            raise _CutOff(error) from None
        finally:
            if counted:
                self._crowd.leave(caller.address)
            self._ended.pop(task, None)
            del self._under_way[key][task]
            if not self._under_way[key]:
                del self._under_way[key]

    # Who calls.

    async def _caller(self, context: Context) -> Caller:
        """Raises :class:`Unauthenticated`, :class:`Forbidden`, and not before the first message of a caller: who is
        still writing it may be told by his library that this failed, instead of why the call was refused."""
        address = address_of(context.peer())
        try:
            return self._operations.caller(_key_of(context), address)
        except HoldfastError:
            if self._strangers.enter(address):
                try:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(context.read(), FIRST_MESSAGE_S)
                finally:
                    self._strangers.leave(address)
            raise

    # How it ends.

    async def _abort(self, context: Context, error: BaseException, *, taken_back: bool) -> None:
        """Does not return, but for a call that is over already."""
        if isinstance(error, asyncio.CancelledError | grpc.aio.AbortError):
            return
        definite = True
        if isinstance(error, _CutOff):
            error, definite = error.why, taken_back
        if not isinstance(error, HoldfastError):
            log.exception("a gRPC call failed", exc_info=error)
            await context.abort(grpc.StatusCode.INTERNAL, "this call failed: the router's log says how")
            return
        await context.abort(status_of(error), message_of(error), ((DETAILS, details_of(error, definite=definite)),))


def _key_of(context: Context) -> str:
    """Raises :class:`Unauthenticated`."""
    given = [value for name, value in context.invocation_metadata() or () if name == "authorization"]
    if len(given) != 1 or not isinstance(given[0], str) or not given[0].lower().startswith(BEARER):
        raise Unauthenticated("a call carries its API key as metadata, once: authorization: Bearer hf_...")
    return given[0][len(BEARER) :].strip()


def is_taken_back(method: MethodDescriptor, message: Any) -> bool:
    """Whether nothing is left of a call that is cut off; of others it is not known what was done by then. Who was
    stolen from has lost the lock also if the thief never gets it."""
    return method.name.startswith(LOOKS) or (isinstance(message, AcquireRequest) and not message.steal)


def reader(kind: type[Message]) -> Callable[[bytes], Message | _Unreadable]:
    def read(data: bytes) -> Message | _Unreadable:
        try:
            return kind.FromString(data)
        except DecodeError:
            return _Unreadable()

    return read


def readable(message: Any) -> Any:
    """Raises :class:`BadMessage` for what could not be read."""
    if isinstance(message, _Unreadable):
        raise BadMessage("this is no message of the method's request type")
    return message


async def first_of(context: Context, within_s: float) -> Any:
    """The message of a call that has one. Raises :class:`BadMessage`, also when it does not come in this time."""
    # Not by the iterator: that is a generator, which the loop would have to close after every call.
    try:
        async with asyncio.timeout(within_s):
            message = await context.read()
    except TimeoutError:
        raise BadMessage(f"the message comes within {within_s:g} s") from None
    if message is grpc.aio.EOF:
        raise BadMessage("this method takes one message: none came")
    return readable(message)


async def each_readable(messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for message in messages:
        yield readable(message)


def address_of(peer: str) -> str:
    """``ipv4:10.0.0.1:5000`` or ``ipv6:%5B::1%5D:5000`` without the kind, the port and the brackets."""
    kind, _, rest = peer.partition(":")
    return unquote(rest).rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else rest


def request_of(caller: Caller, request_id: str) -> bytes:
    """The 16 bytes under which an acquire finds its own grant again: nobody else's can be the same."""
    if not request_id:
        return b""
    if len(request_id) > REQUEST_ID_CHARS_MAX:
        raise InvalidArgument(f"request_id has at most {REQUEST_ID_CHARS_MAX} characters")
    digest = blake2b(digest_size=16, person=b"holdfast grpc id")
    digest.update(f"{caller.tenant} {caller.principal.key} ".encode() + request_id.encode())
    return digest.digest()
