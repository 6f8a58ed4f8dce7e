"""Contexts from files, and connections that fail their handshake."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from holdfast.cluster.certificates import make_certificates
from holdfast.wire import accepting, tls
from holdfast.wire.accepting import Acceptor
from holdfast.wire.addresses import check_plaintext, is_loopback
from holdfast.wire.dialing import open_link
from holdfast.wire.messages import Msg
from holdfast.wire.stream import Connection
from holdfast.wire.tls import (
    Certificates,
    LinkTls,
    TlsFiles,
    TlsUnusable,
    dialling_context,
    names_shown,
    node_name,
    router_name,
    watch_certificates,
)

CLUSTER = "c1"


def files(directory: Path, name: str) -> TlsFiles:
    return TlsFiles(directory / f"{name}.pem", directory / f"{name}-key.pem", directory / "authority.pem")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    make_certificates(tmp_path, CLUSTER, [1, 2])
    return tmp_path


class Listening:
    def __init__(self, certificates: Certificates) -> None:
        self.accepted: asyncio.Queue[Connection] = asyncio.Queue()
        self.failed: list[tuple[str, str]] = []
        self.acceptor = Acceptor(
            lambda: Connection(self._echo, lambda c, e: None, on_open=self.accepted.put_nowait),
            tls=lambda: certificates.listening,
            on_failed=lambda address, why: self.failed.append((address, why)),
        )
        self.address = ""

    def _echo(self, connection: Connection, kind: int, group: int, request: int, body: bytes | None) -> None:
        connection.send(kind, group, request, body or b"")


@asynccontextmanager
async def listening(certificates: Certificates) -> AsyncIterator[Listening]:
    found = Listening(certificates)
    host, port = await found.acceptor.listen("127.0.0.1", 0)
    found.address = f"{host}:{port}"
    try:
        yield found
    finally:
        found.acceptor.close()
        while not found.accepted.empty():
            found.accepted.get_nowait().abort()
        await asyncio.sleep(0)


async def dial(address: str, security: LinkTls | None) -> tuple[Connection, asyncio.Queue[bytes], asyncio.Event]:
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    closed = asyncio.Event()
    connection = await open_link(
        lambda: Connection(lambda c, k, g, r, body: heard.put_nowait(body or b""), lambda c, e: closed.set()),
        address,
        security,
    )
    return connection, heard, closed


async def test_both_sides_see_the_others_name_and_what_is_sent_at_once_arrives(made: Path) -> None:
    async with listening(Certificates(files(made, "node-1"))) as server:
        certificates = Certificates(files(made, "router"))
        connection, heard, _ = await dial(server.address, certificates.toward(node_name(1, CLUSTER)))
        connection.send(Msg.PING, 0, 1, b"x" * 100_000)
        async with asyncio.timeout(5):
            assert len(await heard.get()) == 100_000
            accepted = await server.accepted.get()
        assert router_name(CLUSTER) in names_shown(accepted.transport)
        assert names_shown(connection.transport) == {node_name(1, CLUSTER)}
        connection.abort()
        accepted.abort()


async def test_a_server_with_another_name_is_not_told_anything(made: Path) -> None:
    async with listening(Certificates(files(made, "node-2"))) as server:
        certificates = Certificates(files(made, "router"))
        with pytest.raises(ssl.SSLCertVerificationError):
            await dial(server.address, certificates.toward(node_name(1, CLUSTER)))
        assert server.accepted.empty()


async def test_who_shows_no_certificate_or_a_strangers_is_told_of(made: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    make_certificates(foreign, CLUSTER, [2])
    bare = ssl.create_default_context(cafile=made / "authority.pem")
    stranger = ssl.create_default_context(cafile=made / "authority.pem")
    stranger.load_cert_chain(foreign / "node-2.pem", foreign / "node-2-key.pem")
    async with listening(Certificates(files(made, "node-1"))) as server:
        for context in (bare, stranger):
            with suppress(OSError):
                # With TLS 1.3 the dialling side is done before the other has looked at its certificate.
                _, _, closed = await dial(server.address, LinkTls(context, node_name(1, CLUSTER)))
                async with asyncio.timeout(5):
                    await closed.wait()
        async with asyncio.timeout(5):
            while len(server.failed) < 2:
                await asyncio.sleep(0.001)
        assert server.accepted.empty()
        assert {address for address, _ in server.failed} == {"127.0.0.1"}
        assert all(why.startswith("TLS: ") for _, why in server.failed)


async def test_a_handshake_has_a_time_and_callers_that_just_leave_are_not_told_of(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accepting, "TLS_HANDSHAKE_S", 0.1)
    async with listening(Certificates(files(made, "node-1"))) as server:
        host, _, port = server.address.rpartition(":")
        loop = asyncio.get_running_loop()
        with socket.create_connection((host, int(port)), 5) as silent:
            silent.setblocking(False)
            async with asyncio.timeout(5):
                assert await loop.sock_recv(silent, 1) == b""
        assert len(server.failed) == 1


async def silent(address: str, origin: str) -> socket.socket:
    """A connection from a loopback address of its own, on which nothing is said."""
    host, _, port = address.rpartition(":")
    found = socket.socket()
    found.setblocking(False)
    found.bind((origin, 0))
    await asyncio.get_running_loop().sock_connect(found, (host, int(port)))
    return found


@pytest.mark.parametrize(
    ("limit", "kept_out"),
    [("HANDSHAKES_PER_ADDRESS_MAX", ["127.0.0.1"]), ("HANDSHAKES_MAX", ["127.0.0.2", "127.0.0.1"])],
)
async def test_so_many_handshakes_of_an_address_and_in_all_and_room_again_when_one_ends(
    made: Path, monkeypatch: pytest.MonkeyPatch, limit: str, kept_out: list[str]
) -> None:
    monkeypatch.setattr(accepting, limit, 2)
    loop = asyncio.get_running_loop()
    async with listening(Certificates(files(made, "node-1"))) as server:
        under_way = [await silent(server.address, "127.0.0.1") for _ in range(2)]
        for origin in ("127.0.0.2", "127.0.0.1"):
            under_way.append(await silent(server.address, origin))
            if origin in kept_out:
                async with asyncio.timeout(5):
                    assert await loop.sock_recv(under_way[-1], 1) == b""
        assert server.failed == [(origin, "too many TLS handshakes are under way") for origin in kept_out]
        for each in under_way:
            each.close()
        security = Certificates(files(made, "router")).toward(node_name(1, CLUSTER))
        async with asyncio.timeout(5):
            while server.accepted.empty():
                with suppress(OSError):
                    (await dial(server.address, security))[0].abort()


def test_files_are_read_again_when_they_change_and_kept_when_they_cannot_be_used(made: Path) -> None:
    certificates = Certificates(files(made, "node-1"))
    first = certificates.listening
    assert not certificates.refresh()
    make_certificates(made, CLUSTER, [1])
    assert certificates.refresh()
    second = certificates.listening
    assert second is not first
    (made / "node-1-key.pem").write_bytes((made / "router-key.pem").read_bytes())
    with pytest.raises(TlsUnusable):
        certificates.refresh()
    assert not certificates.refresh()
    assert certificates.listening is second
    (made / "node-1-key.pem").unlink()
    with pytest.raises(TlsUnusable, match="cannot read"):
        certificates.refresh()
    make_certificates(made, CLUSTER, [1])
    assert certificates.refresh()


async def test_an_authority_that_is_taken_away_is_not_trusted_any_more(made: Path, tmp_path: Path) -> None:
    certificates = Certificates(files(made, "node-1"))
    old = Certificates(files(made, "router"))
    link = old.toward(node_name(1, CLUSTER))
    async with listening(certificates) as server:
        connection, _, _ = await dial(server.address, link)
        connection.abort()
        async with asyncio.timeout(5):
            (await server.accepted.get()).abort()
        newer = tmp_path / "newer"
        make_certificates(newer, CLUSTER, [1])
        (made / "authority.pem").write_bytes((newer / "authority.pem").read_bytes())
        assert certificates.refresh()
        _, _, closed = await dial(server.address, link)
        async with asyncio.timeout(5):
            await closed.wait()
        assert server.accepted.empty()


async def test_a_signal_has_the_files_looked_at_at_once(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "TLS_LOOK_S", 1000)
    certificates = Certificates(files(made, "node-1"))
    loaded, now, troubles = asyncio.Event(), asyncio.Event(), asyncio.Queue[str]()
    watching = asyncio.create_task(
        watch_certificates([certificates], on_loaded=loaded.set, on_trouble=troubles.put_nowait, now=now)
    )
    make_certificates(made, CLUSTER, [1])
    now.set()
    async with asyncio.timeout(5):
        await loaded.wait()
        (made / "node-1.pem").write_text("none")
        now.set()
        assert "stays in force" in await troubles.get()
    watching.cancel()


def test_what_cannot_be_used_names_the_file(made: Path) -> None:
    with pytest.raises(TlsUnusable, match=r"absent\.pem"):
        Certificates(files(made, "absent"))
    with pytest.raises(TlsUnusable, match="tls-ca"):
        dialling_context(TlsFiles(made / "router.pem", made / "router-key.pem"))
    (made / "authority.pem").write_text("none")
    with pytest.raises(TlsUnusable, match=r"authority\.pem"):
        Certificates(files(made, "router"))


def test_what_only_this_machine_reaches() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "no.such.host.invalid"))
    check_plaintext("127.0.0.1:1", allowed=False)
    check_plaintext("10.0.0.1:1", allowed=True)
    with pytest.raises(ValueError, match="--plaintext"):
        check_plaintext("10.0.0.1:1", allowed=False)
