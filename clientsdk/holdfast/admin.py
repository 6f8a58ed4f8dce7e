"""Administration of a cluster: tenants, keys, locks and sessions of any tenant, the audit log.

``async with holdfast.admin.connect(url, key) as admin:``, with the operator's key for everything, or with a tenant's
key of role ``admin`` for its own keys, locks, sessions and audit records.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Generator
from types import TracebackType
from typing import Any, Final, TypeVar

import msgspec

from .address import Address, key_of, parse_url
from .wire import administration as asked
from .wire.administration import (
    AdminCall,
    AdminRequest,
    Done,
    KeyMade,
    LockDetail,
    SessionDetail,
    TenantInfo,
    TenantMade,
    decode_result,
)
from .wire.changes import CHANGE_ID_BYTES
from .wire.errors import BadMessage, HoldfastError, OutcomeUnknown, Unavailable
from .wire.frames import encode
from .wire.limits import PROTOCOL_VERSION
from .wire.messages import Hello, Msg, Role, decode_refusal
from .wire.stream import Connection
from .wire.tenants import DEFAULT_PLAN, KeyRole
from .wire.tls import client_context

DIAL_S: Final = 2.0
PAGE: Final = 100

T = TypeVar("T")


class Admin:
    """One connection to one router; requests may be made side by side.

    Every method raises :class:`Forbidden`, :class:`NotFound`, :class:`Conflict`, :class:`InvalidArgument`,
    :class:`Unavailable` when certainly nothing was done, and :class:`OutcomeUnknown` when something may have been.
    """

    def __init__(self, address: Address, api_key: str, timeout_s: float, tls: ssl.SSLContext | None) -> None:
        self._address = address
        self._key = api_key
        self._timeout_s = timeout_s
        self._tls = (tls or client_context()) if address.tls else None
        self._connection: Connection | None = None
        self._greeted: asyncio.Future[None] | None = None
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._next = 1

    # Tenants.

    async def create_tenant(
        self, tenant: str, *, display: str = "", plan: str = DEFAULT_PLAN, weight: int | None = None, **quotas: int
    ) -> TenantMade:
        """``quotas``: those that differ from the plan's, by their names in ``holdfast.wire.tenants.Quotas``."""
        return await self._ask(asked.CreateTenant(tenant, display, plan, weight, quotas), TenantMade)

    async def tenants(self) -> AsyncIterator[TenantInfo]:
        """By id."""
        cursor = ""
        while True:
            page = await self._ask(asked.ListTenants(cursor, PAGE), asked.TenantPage)
            for tenant in page.tenants:
                yield tenant
            if not (cursor := page.cursor):
                return

    async def tenant(self, tenant: str = "") -> TenantInfo:
        """One's own when it is not named, as everywhere."""
        return await self._ask(asked.ShowTenant(tenant), TenantInfo)

    async def set_tenant(
        self,
        tenant: str,
        *,
        display: str | None = None,
        plan: str | None = None,
        weight: int | None = None,
        version: int = 0,
        **quotas: int,
    ) -> TenantInfo:
        """What is not named stays; a plan brings its weight and quotas. ``version``: as it was looked at, else
        :class:`Conflict`."""
        return await self._ask(asked.SetTenant(tenant, display, plan, weight, quotas, version), TenantInfo)

    async def suspend_tenant(self, tenant: str) -> TenantInfo:
        """Nothing of it is admitted any more and its connections are closed; what it holds runs out."""
        return await self._ask(asked.SuspendTenant(tenant), TenantInfo)

    async def resume_tenant(self, tenant: str) -> TenantInfo:
        return await self._ask(asked.ResumeTenant(tenant), TenantInfo)

    async def delete_tenant(self, tenant: str) -> None:
        """A suspended one."""
        await self._ask(asked.DeleteTenant(tenant), Done)

    # Keys.

    async def create_key(
        self, tenant: str = "", *, name: str = "", role: KeyRole | str = KeyRole.LOCKS, prefix: str = ""
    ) -> KeyMade:
        """The only time that the key is shown."""
        return await self._ask(asked.CreateKey(tenant, name, KeyRole(role), prefix), KeyMade)

    async def rotate_key(self, key: str) -> KeyMade:
        """Another with the same name, role and prefix in the place of the one with this id, which ends at once."""
        return await self._ask(asked.RotateKey(key), KeyMade)

    async def revoke_key(self, key: str) -> None:
        """By its id. It is accepted nowhere a second later; connections that use it are closed."""
        await self._ask(asked.RevokeKey(key), Done)

    # Locks and sessions.

    async def locks(self, tenant: str = "", prefix: str = "") -> AsyncIterator[LockDetail]:
        cursor = ""
        while True:
            page = await self._ask(asked.ListLocks(tenant, prefix, cursor, PAGE), asked.LockList)
            for lock in page.locks:
                yield lock
            if not (cursor := page.cursor):
                return

    async def lock(self, name: str, tenant: str = "") -> LockDetail:
        return await self._ask(asked.ShowLock(name, tenant), LockDetail)

    async def break_lock(
        self, name: str, tenant: str = "", *, token: int = 0, reason: str = "", now: bool = False
    ) -> None:
        """Take it from its holder (of that token). Raises :class:`NotFound` when nobody holds it."""
        await self._ask(asked.BreakLock(name, tenant, token, reason, now), Done)

    async def sessions(self, tenant: str = "") -> AsyncIterator[SessionDetail]:
        """One for each group in which a session was used."""
        cursor = ""
        while True:
            page = await self._ask(asked.ListSessions(tenant, cursor, PAGE), asked.SessionList)
            for session in page.sessions:
                yield session
            if not (cursor := page.cursor):
                return

    async def end_session(self, session: str, tenant: str = "", *, reason: str = "") -> None:
        await self._ask(asked.EndSession(session, tenant, reason), Done)

    async def audit(
        self,
        *,
        tenant: str = "",
        action: str = "",
        target: str = "",
        key: str = "",
        since_ms: int = 0,
        until_ms: int = 0,
    ) -> AsyncIterator[dict[str, Any]]:
        """Newest first; of the last 4,096 of the cluster, those that fit all that is given.

        ``tenant``: about it or done with its keys, also when it was deleted; a tenant's own key sees no other.
        ``action``: such as ``key.revoke``, or ``key`` for all that is done to keys. ``target``: a lock's name, a
        session, the id of a tenant or key. ``key``: id of the key with which it was done. From ``since_ms`` on and
        before ``until_ms``, in Unix time; 0 for no bound. Raises :class:`InvalidArgument` for a text of more than
        1,024 characters.
        """
        cursor = 0
        while True:
            request = asked.ListAudit(cursor, PAGE, tenant, action, target, key, since_ms, until_ms)
            page = await self._ask(request, asked.AuditList)
            for record in page.records:
                yield record
            if not (cursor := page.cursor):
                return

    # The connection.

    async def open(self) -> None:
        """Connect to the first router that answers. Raises :class:`Unavailable`, :class:`Unauthenticated`,
        :class:`Forbidden`."""
        trouble: HoldfastError | None = None
        for host, port in self._address.hosts:
            try:
                await self._dial(host, port)
            except (OSError, TimeoutError, Unavailable) as error:
                trouble = Unavailable(f"{host}:{port}: {error or 'no answer in time'}")
            else:
                return
        assert trouble is not None, "an address has at least one host"
        raise trouble

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _dial(self, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        greeted = self._greeted = loop.create_future()
        async with asyncio.timeout(min(DIAL_S, self._timeout_s)):
            _, connection = await loop.create_connection(
                lambda: Connection(self._message, self._closed), host, port, ssl=self._tls
            )
            self._connection = connection
            connection.send(Msg.HELLO, 0, 0, encode(Hello(PROTOCOL_VERSION, Role.CLIENT, self._key, agent="admin")))
            try:
                await greeted
            except BaseException:
                connection.abort()
                raise

    def _message(self, connection: Connection, kind: int, group: int, request: int, body: bytes | None) -> None:
        if connection is not self._connection or body is None:
            return
        waiting = self._waiting.get(request)
        if kind == Msg.WELCOME and self._greeted is not None and not self._greeted.done():
            self._greeted.set_result(None)
        elif kind == Msg.ADMIN and waiting is not None and not waiting.done():
            waiting.set_result(body)
        elif kind == Msg.REFUSED:
            self._refused(waiting if request else None, body)

    def _refused(self, waiting: asyncio.Future[bytes] | None, body: bytes) -> None:
        try:
            error = decode_refusal(body).error()
        except msgspec.DecodeError as reason:
            error = BadMessage(f"the router's refusal cannot be read: {reason}")
        if waiting is not None:
            if not waiting.done():
                waiting.set_exception(error)
        elif self._greeted is not None and not self._greeted.done():
            self._greeted.set_exception(error)

    def _closed(self, connection: Connection, error: Exception | None) -> None:
        if connection is not self._connection:
            return
        if self._greeted is not None and not self._greeted.done():
            self._greeted.set_exception(Unavailable(str(error or "the router closed the connection")))
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(OutcomeUnknown("the connection was lost: look whether it was done"))

    async def _ask(self, request: AdminRequest, kind: type[T]) -> T:
        connection = self._connection
        if connection is None or connection.closed:
            await self.open()
            connection = self._connection
            assert connection is not None
        number, self._next = self._next, self._next % 0xFFFFFFFF + 1
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        connection.send(Msg.ADMIN, 0, number, encode(AdminCall(os.urandom(CHANGE_ID_BYTES), request)))
        try:
            async with asyncio.timeout(self._timeout_s):
                body = await answer
            result: T = decode_result(body, kind)
            return result
        except TimeoutError:
            raise OutcomeUnknown(f"no answer within {self._timeout_s:g} s: look whether it was done") from None
        except msgspec.DecodeError as error:
            raise BadMessage(f"the router sent a result that is none: {error}") from None
        finally:
            del self._waiting[number]


class Connecting:
    """What :func:`connect` returns: to be awaited, or used in ``async with``."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin

    def __await__(self) -> Generator[Any, None, Admin]:
        return self._opened().__await__()

    async def _opened(self) -> Admin:
        await self._admin.open()
        return self._admin

    async def __aenter__(self) -> Admin:
        return await self._opened()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._admin.close()


def connect(
    url: str, api_key: str | None = None, *, timeout: float = 15.0, tls: ssl.SSLContext | None = None
) -> Connecting:
    """``url`` and ``tls`` as of :func:`holdfast.connect`; ``api_key`` is else ``HOLDFAST_API_KEY``. ``timeout``: how
    long a request is waited for, in seconds."""
    return Connecting(Admin(parse_url(url), key_of(api_key), timeout, tls))
