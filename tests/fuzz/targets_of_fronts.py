"""What reads the bytes of callers of HTTP and gRPC: whatever they say is refused in words, or can be sent on."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from google.protobuf.message import DecodeError, Message

from holdfast.errors import HoldfastError, InvalidArgument
from holdfast.v1 import admin_pb2 as apb
from holdfast.v1 import locks_pb2 as pb
from holdfast.v1 import sessions_pb2 as spb
from holdfast.wire.frames import encode
from holdfast.wire.sealing import sealed
from holdfast_router.grpc import admin_translation, translation
from holdfast_router.http.endpoints import ENDPOINTS
from holdfast_router.http.reading import put_together
from holdfast_router.operations.opaque import CURSOR, SESSION, Cursor, Seals, SessionKey

SEALS: Final = Seals("secret")


def http_request(data: bytes) -> None:
    """As the body of every endpoint, and with it as every name in a path and parameter of a query."""
    text = data.decode("latin-1")
    for endpoint in ENDPOINTS:
        named = dict.fromkeys(endpoint.query.__struct_fields__, text) if endpoint.query is not None else {}
        path = dict.fromkeys(re.findall(r"{(\w+)}", endpoint.path), text)
        for given in ({}, named):
            try:
                encode(put_together(endpoint, given, data, path))
            except HoldfastError:
                continue


TRANSLATIONS: Final[dict[type[Message], Callable[[Any], Any]]] = {
    pb.AcquireRequest: translation.acquire,
    pb.ReleaseRequest: translation.release,
    pb.RenewRequest: translation.renew,
    pb.CheckRequest: translation.check,
    pb.GetRequest: translation.get,
    pb.ForceReleaseRequest: translation.force_release,
    pb.ListRequest: translation.list_locks,
    pb.WatchRequest: translation.watch,
    pb.BatchRequest: translation.batch,
    spb.CreateRequest: translation.create_session,
    spb.AttachRequest: translation.create_session,
    spb.ListSessionsRequest: translation.list_sessions,
    apb.CreateTenantRequest: admin_translation.create_tenant,
    apb.UpdateTenantRequest: admin_translation.set_tenant,
    apb.ListTenantsRequest: admin_translation.list_tenants,
    apb.CreateKeyRequest: admin_translation.create_key,
    apb.ListTenantLocksRequest: admin_translation.list_locks,
    apb.BreakTenantLockRequest: admin_translation.break_lock,
    apb.ListTenantSessionsRequest: admin_translation.list_sessions,
    apb.ListAuditRecordsRequest: admin_translation.list_audit,
}


def grpc_request(data: bytes) -> None:
    """As the message of every rpc that has one to translate."""
    for kind, translate in TRANSLATIONS.items():
        try:
            encode(translate(kind.FromString(data)))
        except (DecodeError, HoldfastError):
            continue


def opaque(data: bytes) -> None:
    """Sessions and cursors: once as text, once as the body of a text whose seal is right."""
    for kind, purpose, shape in ((SESSION, b"session", SessionKey), (CURSOR, b"cursor", Cursor)):
        for text in (data.decode("latin-1"), f"{kind}_{sealed(SEALS.key(1), purpose, data)}"):
            try:
                found = SEALS.open(1, kind, text, shape)
            except InvalidArgument:
                continue
            assert SEALS.open(1, kind, SEALS.seal(1, kind, found), shape) == found
