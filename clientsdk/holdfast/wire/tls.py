"""TLS of servers and clients: contexts from PEM files, read again when they change, for new connections.

What is open goes on with what it was opened with. Servers know each other by names in their certificates that nobody
else can have: ``node-N.CLUSTER.holdfast`` and ``router.CLUSTER.holdfast``.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from holdfast.wire.errors import InvalidArgument
from holdfast.wire.limits import TLS_LOOK_S

ALPN: Final = "holdfast/1"
CA_VARIABLE: Final = "HOLDFAST_CA"


class TlsUnusable(Exception):
    """Certificate, key or authority cannot be used; the message names the file."""


def node_name(node: int, cluster: str) -> str:
    """The name in the certificate of a node."""
    return f"node-{node}.{cluster}.holdfast"


def router_name(cluster: str) -> str:
    """The name in the certificate of every router of a cluster."""
    return f"router.{cluster}.holdfast"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What a listener or a dialler of a server uses. All PEM."""

    certificate: Path
    """The chain, its own first."""
    key: Path
    """Not encrypted: nobody is there to be asked for a password."""
    authority: Path | None = None
    """Who has to have signed the other side's certificate. A listener without one asks callers for none."""


def listening_context(files: TlsFiles) -> ssl.SSLContext:
    """For accepted connections. Raises :class:`TlsUnusable`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # No resumption: it would let in whom the authority of today does not know any more.
    context.num_tickets = 0
    _load(context, files)
    if files.authority is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def dialling_context(files: TlsFiles) -> ssl.SSLContext:
    """For connections of a server to a server, which shows its certificate and trusts ``authority`` alone.

    Raises :class:`TlsUnusable`.
    """
    if files.authority is None:
        raise TlsUnusable("without --tls-ca nothing says whom to trust at the other end")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _load(context, files)
    return context


def client_context() -> ssl.SSLContext:
    """For clients: trusts the authorities in the file that ``HOLDFAST_CA`` names, else those of the system.

    Raises :class:`InvalidArgument` when there is no such file or it holds none.
    """
    file = os.environ.get(CA_VARIABLE)
    try:
        context = ssl.create_default_context(cafile=file or None)
    except OSError as error:
        raise InvalidArgument(
            f"{CA_VARIABLE} names {file}, which holds no certificates: {error.strerror or error}"
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([ALPN])
    return context


def _load(context: ssl.SSLContext, files: TlsFiles) -> None:
    for what, path in (("certificate", files.certificate), ("key", files.key), ("authority", files.authority)):
        if path is not None:
            try:
                path.open("rb").close()
            except OSError as error:  # of the files, for ssl does not say which
                raise TlsUnusable(f"cannot read {what} {path}: {error.strerror}") from None

    def no_password() -> str:
        raise TlsUnusable(f"the key {files.key} is encrypted, and a server cannot be asked for a password: decrypt it")

    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([ALPN])
    try:
        context.load_cert_chain(files.certificate, files.key, no_password)
    except OSError as error:
        raise TlsUnusable(
            f"{files.certificate} and {files.key} have to be a certificate and its key, both PEM: {error}"
        ) from None
    if files.authority is not None:
        try:
            context.load_verify_locations(files.authority)
        except OSError as error:
            raise TlsUnusable(f"{files.authority} has to hold certificates of authorities, PEM: {error}") from None


class Certificates:
    """The contexts of one set of files as they are now. Raises :class:`TlsUnusable` when they cannot be used at first;
    later such files leave in force what was."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._seen = self._state()
        self.listening = listening_context(files)
        self.dialling = dialling_context(files) if files.authority is not None else None

    def refresh(self) -> bool:
        """Read the files again if any of them changed; whether it did. Raises :class:`TlsUnusable`, once for each
        state of the files that cannot be used."""
        state = self._state()
        if state == self._seen:
            return False
        # First: files that are being replaced do not fit each other for a moment, and are complained about once.
        self._seen = state
        listening = listening_context(self._files)
        self.dialling = dialling_context(self._files) if self._files.authority is not None else None
        self.listening = listening
        return True

    def _state(self) -> tuple[tuple[int, int, int], ...]:
        found = []
        for path in (self._files.certificate, self._files.key, self._files.authority):
            if path is not None:
                try:
                    now = path.stat()
                except OSError:
                    found.append((0, 0, 0))
                else:
                    found.append((now.st_ino, now.st_size, now.st_mtime_ns))
        return tuple(found)

    def toward(self, name: str) -> LinkTls | None:
        """How to dial the server of that name; None when servers are not authenticated."""
        return LinkTls(self.dialling, name) if self.dialling is not None else None


@dataclass(frozen=True, slots=True)
class LinkTls:
    """For one connection to a server: its certificate must be for ``name``, wherever it is found."""

    context: ssl.SSLContext
    name: str


async def watch_certificates(
    certificates: list[Certificates],
    *,
    on_loaded: Callable[[], None],
    on_trouble: Callable[[str], None],
    now: asyncio.Event,
) -> None:
    """Look at the files every ``TLS_LOOK_S``, and at once when ``now`` is set. Cancel to end."""
    while True:
        try:
            await asyncio.wait_for(now.wait(), TLS_LOOK_S)
        except TimeoutError:
            pass
        now.clear()
        for each in certificates:
            try:
                if each.refresh():
                    on_loaded()
            except TlsUnusable as error:
                on_trouble(f"{error}; what was read before stays in force")


def names_shown(transport: asyncio.BaseTransport | None) -> frozenset[str]:
    """The DNS names in the certificate that the other side showed and an authority signed; none without TLS."""
    tls = transport.get_extra_info("ssl_object") if transport is not None else None
    shown = tls.getpeercert() if tls is not None else None
    if not shown:
        return frozenset()
    return frozenset(value for kind, value in shown.get("subjectAltName", ()) if kind == "DNS")
