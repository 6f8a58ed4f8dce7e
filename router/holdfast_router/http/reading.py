"""What a request says: who asks, from where, and what, as the type that its endpoint takes."""

from __future__ import annotations

import asyncio
from typing import Any, Final
from urllib.parse import unquote

import msgspec
from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.types import Receive

from holdfast.errors import BadMessage, InvalidArgument, TooLarge, Unauthenticated
from holdfast.wire.limits import SECTION_BYTES_MAX

from ..operations.requests import complaint
from .endpoints import Endpoint
from .request import Request

BODY_BYTES_MAX: Final = SECTION_BYTES_MAX
BODY_S: Final = 10.0
"""Within which a body has to have come."""

_JSON: Final = "application/json"


def key_of(request: Request) -> str:
    """The API key. Raises ``Unauthenticated`` when there is none."""
    scheme, _, key = request.field(b"authorization").partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated("a request carries its API key as a header: Authorization: Bearer hf_...")
    return key.strip()


async def typed(endpoint: Endpoint, request: Request) -> Struct:
    """What path, query and body say together. Raises ``InvalidArgument``, ``BadMessage``, ``TooLarge``, and
    ``HTTPException`` for what only HTTP knows."""
    named = _query_of(request) if endpoint.query is not None else {}
    body = await _body(request) if endpoint.body is not None else b""
    return put_together(endpoint, named, body, request.params)


def put_together(endpoint: Endpoint, named: dict[str, str], body: bytes, path: dict[str, str]) -> Struct:
    """Of the query's parameters, the body and the path's, which are percent-encoded. Raises ``InvalidArgument``,
    ``BadMessage``."""
    fields: dict[str, Any] = {}
    if endpoint.query is not None:
        fields |= _fields(_converted(named, endpoint.query, strict=False))
    if endpoint.body is not None:
        said = _said(body or b"{}", endpoint.body)
        if endpoint.body is endpoint.asked:
            return said
        fields |= _fields(said)
    try:
        fields |= {name: unquote(text, errors="strict") for name, text in path.items()}
    except UnicodeDecodeError:
        raise InvalidArgument("a name in a path is percent-encoded UTF-8") from None
    return _converted(fields, endpoint.asked)


def _said(body: bytes, kind: Any) -> Struct:
    try:
        try:
            found: Struct = msgspec.json.decode(body, type=kind)
        except msgspec.ValidationError:
            # JSON knows one kind of number: what another program writes as 30000.0 may be a whole one.
            found = msgspec.convert(_whole(msgspec.json.decode(body)), kind)
        return found
    except msgspec.ValidationError as error:
        raise InvalidArgument(complaint(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(f"the body is no JSON: {error}") from None


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_whole(each) for each in value]
    if isinstance(value, dict):
        return {name: _whole(each) for name, each in value.items()}
    return value


def query(request: Request, kind: type[Struct]) -> Struct:
    """Raises ``InvalidArgument``."""
    return _converted(_query_of(request), kind)


def _query_of(request: Request) -> dict[str, str]:
    given = request.query
    if len(given.multi_items()) != len(given):
        raise InvalidArgument("each parameter of the query may be given once")
    return dict(given)


def _fields(value: Struct) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__struct_fields__}


def _converted(fields: dict[str, Any], kind: type[Struct], *, strict: bool = True) -> Struct:
    try:
        return msgspec.convert(fields, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise InvalidArgument(complaint(error)) from None


async def _body(request: Request) -> bytes:
    if request.field(b"content-encoding", "identity") != "identity":
        raise HTTPException(415, "a body is not compressed")
    if request.has_come:
        body = await _received(request.receive)
    else:
        try:
            async with asyncio.timeout(BODY_S):
                body = await _received(request.receive)
        except TimeoutError:
            raise HTTPException(408, f"a body comes within {BODY_S:g} s") from None
    if body:
        media = request.field(b"content-type")
        if media != _JSON and media.partition(";")[0].strip().lower() != _JSON:
            raise HTTPException(415, "a body is application/json: say so with Content-Type")
    return body


async def _received(receive: Receive) -> bytes:
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadMessage("the connection ended before the body was whole")
        part = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(part)
        if size > BODY_BYTES_MAX:
            raise TooLarge(f"a body has at most {BODY_BYTES_MAX} bytes")
        parts.append(part)
    return b"".join(parts)
