"""A cluster under TLS: who may connect to whom, what strangers get, and new certificates while it runs."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast.cluster import LocalCluster, Shape
from holdfast.cluster.certificates import make_certificates
from holdfast.wire.frames import encode
from holdfast.wire.limits import PROTOCOL_VERSION
from holdfast.wire.messages import Hello, Msg, Refusal, Role, decode_refusal
from holdfast.wire.stream import Splitter, pack
from holdfast.wire.tls import node_name

from ..cli.processes import wait_until
from .running import environment_in
from .running import holdfast as command
from .test_by_hand import Deployment, free_ports

REFUSED, WELCOME = int(Msg.REFUSED), int(Msg.WELCOME)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path_factory.mktemp("secured"), shape=Shape(3, 1, 3), tls=True) as cluster:
        yield cluster


def formation(cluster: LocalCluster) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cluster.formation.read_text())
    return found


def node_address(cluster: LocalCluster, node: int) -> tuple[str, int]:
    host, _, port = formation(cluster)["nodes"][node - 1][1].rpartition(":")
    return host, int(port)


def dialling(directory: Path, name: str, authority: Path) -> ssl.SSLContext:
    """Shows the certificate of that name in ``directory``, and trusts ``authority``."""
    context = ssl.create_default_context(cafile=authority)
    context.load_cert_chain(directory / f"{name}.pem", directory / f"{name}-key.pem")
    return context


def hello(cluster: LocalCluster, role: Role = Role.ROUTER, node: int = 0) -> bytes:
    """Of one who knows all that a server of the cluster knows."""
    formed = formation(cluster)
    identity = formed["nodes"][node - 1][2] if node else ""
    body = Hello(PROTOCOL_VERSION, role, formed["secret"], formed["cluster"], node, identity)
    return pack(Msg.HELLO, 0, 0, encode(body))


def first_answer(cluster: LocalCluster, node: int, context: ssl.SSLContext, greeting: bytes) -> tuple[int, bytes]:
    """Of a node; raises ``OSError`` when the connection ends before one."""
    name = node_name(node, formation(cluster)["cluster"])
    with (
        socket.create_connection(node_address(cluster, node), 5) as plain,
        context.wrap_socket(plain, server_hostname=name) as stream,
    ):
        stream.sendall(greeting)
        splitter = Splitter()
        while data := stream.recv(1 << 16):
            for kind, _, _, body in splitter.feed(data):
                return kind, body or b""
        raise ConnectionResetError


def refusal(answer: tuple[int, bytes]) -> Refusal:
    assert answer[0] == REFUSED
    return decode_refusal(answer[1])


def log_of(cluster: LocalCluster, server: str) -> list[dict[str, Any]]:
    lines = (cluster.directory / "logs" / f"{server}.log").read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


async def test_everything_works_under_tls(secured: LocalCluster) -> None:
    assert secured.url.startswith("holdfasts://")
    trust = ssl.create_default_context(cafile=secured.authority)
    async with holdfast.connect(secured.url, secured.api_key, tls=trust) as client, client.lock("a") as lock:
        assert await client.check(lock.id)
    environment = {**os.environ, **secured.environment}
    assert command("lock", "b", "--", "true", environment=environment).returncode == 0
    assert command("status", environment=environment).returncode == 0
    wrong = command("status", environment={**environment, "HOLDFAST_CA": str(secured.formation)})
    assert (wrong.returncode, "holdfast: HOLDFAST_CA" in wrong.stderr) == (64, True), wrong.stderr


def test_a_server_of_the_cluster_is_welcomed_by_its_name(secured: LocalCluster) -> None:
    certificates = secured.directory / "tls"
    assert secured.authority is not None
    router = dialling(certificates, "router", secured.authority)
    assert first_answer(secured, 1, router, hello(secured))[0] == WELCOME
    node = dialling(certificates, "node-2", secured.authority)
    # A node calls the meta group as routers do.
    assert first_answer(secured, 1, node, hello(secured))[0] == WELCOME


@pytest.mark.parametrize(
    ("name", "role", "node"),
    [("client", Role.ROUTER, 0), ("router", Role.NODE, 2), ("node-3", Role.NODE, 2), ("client", Role.ADMIN, 0)],
)
def test_a_certificate_for_another_name_is_refused_whatever_else_its_owner_knows(
    secured: LocalCluster, name: str, role: Role, node: int
) -> None:
    assert secured.authority is not None
    context = dialling(secured.directory / "tls", name, secured.authority)
    told = refusal(first_answer(secured, 1, context, hello(secured, role, node)))
    assert "a certificate for" in told.message
    assert f"is not that of a {role}" in told.message


def test_a_node_that_is_no_member_is_refused(secured: LocalCluster, tmp_path: Path) -> None:
    """Its certificate is good, but the meta group does not know it."""
    for file in ("authority.pem", "authority-key.pem"):
        (tmp_path / file).write_bytes((secured.directory / "tls" / file).read_bytes())
    make_certificates(tmp_path, formation(secured)["cluster"], [9])
    context = dialling(tmp_path, "node-9", tmp_path / "authority.pem")
    assert "node-9" in refusal(first_answer(secured, 1, context, hello(secured))).message


async def test_a_stranger_is_refused_and_logged_once_and_harms_nobody(secured: LocalCluster, tmp_path: Path) -> None:
    """It has the names, the cluster's secret and a node's identity, but certificates of an authority of its own."""
    make_certificates(tmp_path, formation(secured)["cluster"], [1, 2, 3])
    assert secured.authority is not None
    before = secured.status()
    trust = ssl.create_default_context(cafile=secured.authority)
    async with holdfast.connect(secured.url, secured.api_key, tls=trust) as client, client.lock("held") as lock:
        for _ in range(20):
            with pytest.raises(OSError):  # noqa: PT011 - an alert, a reset or an end: all of them
                first_answer(secured, 3, dialling(tmp_path, "node-2", secured.authority), hello(secured, Role.NODE, 2))
        plain = hello(secured, Role.NODE, 2)
        with socket.create_connection(node_address(secured, 3), 5) as stream:
            stream.sendall(plain)
            assert stream.recv(100) == b""
        assert await client.check(lock.id)
    wait_until(lambda: _refusals(secured, "node-3") != [], "the refusal in the log")
    (line,) = _refusals(secured, "node-3")
    assert (line["address"], line["why"].startswith("TLS: ")) == ("127.0.0.1", True)
    after = secured.status()
    assert [node.pid for node in after.nodes] == [node.pid for node in before.nodes]
    assert after.leaders() == before.leaders()
    assert [{group.term for group in node.groups} for node in after.nodes] == [
        {group.term for group in node.groups} for node in before.nodes
    ]


def _refusals(cluster: LocalCluster, server: str) -> list[dict[str, Any]]:
    return [line for line in log_of(cluster, server) if line["event"] == "refused a caller"]


def _serial(cluster: LocalCluster, trust: ssl.SSLContext) -> str:
    with (
        socket.create_connection(cluster.address, 5) as plain,
        trust.wrap_socket(plain, server_hostname="127.0.0.1") as stream,
    ):
        shown = stream.getpeercert()
        assert shown is not None
        return str(shown["serialNumber"])


async def test_new_certificates_are_taken_while_connections_stay(tmp_path: Path) -> None:
    with LocalCluster(tmp_path, shape=Shape(3, 1, 3), tls=True) as cluster:
        assert cluster.authority is not None
        trust = ssl.create_default_context(cafile=cluster.authority)
        first = _serial(cluster, trust)
        async with holdfast.connect(cluster.url, cluster.api_key, tls=trust) as client, client.lock("held") as lock:
            before = cluster.status()
            make_certificates(tmp_path / "tls", formation(cluster)["cluster"], [1, 2, 3])
            for process in (cluster.router, cluster.nodes[1]):
                process.signal(signal.SIGHUP)
            servers = ["router", "node-1", "node-2", "node-3"]
            wait_until(
                lambda: all(_read_again(cluster, server) for server in servers), "the new certificates to be taken"
            )
            assert _serial(cluster, trust) != first
            assert lock.held
            assert await client.check(lock.id)
            assert cluster.status().leaders() == before.leaders()
        # Files that cannot be used leave in force what was.
        (tmp_path / "tls" / "router.pem").write_text("no certificate")
        wait_until(
            lambda: any(line["event"] == "certificates cannot be used" for line in log_of(cluster, "router")),
            "the complaint",
        )
        assert _serial(cluster, trust) != first
        cluster.restart(2)
        cluster.ready(all_nodes=True)


def _read_again(cluster: LocalCluster, server: str) -> bool:
    return any(line["event"] == "certificates were read again" for line in log_of(cluster, server))


def test_up_with_tls_needs_nothing_more(tmp_path: Path) -> None:
    script = f"{command.__globals__['HOLDFAST']} lock a -- sh -c 'echo $HOLDFAST_URL'"
    done = command(
        "up", "--tls", "--listen", "127.0.0.1:0", "--", "sh", "-c", script, environment=environment_in(tmp_path)
    )
    assert (done.returncode, done.stdout.startswith("holdfasts://")) == (0, True), done.stderr


def test_certs_makes_what_servers_take(tmp_path: Path) -> None:
    out, made = tmp_path / "cluster", tmp_path / "tls"
    address = f"127.0.0.1:{free_ports(1)[0]}"
    assert command("node", "form", "--nodes", address, "--replicas", "1", "--out", str(out)).returncode == 0
    arguments = ["certs", "--formation", str(out / "formation.json"), "--out", str(made), "--host", "locks.example"]
    first = command(*arguments)
    assert first.returncode == 0, first.stderr
    names = ["authority", "node-1", "router", "client"]
    assert {path.name for path in made.glob("*.pem")} == {f"{n}.pem" for n in names} | {f"{n}-key.pem" for n in names}
    assert {path.stat().st_mode & 0o777 for path in made.glob("*-key.pem")} == {0o600}
    authority, node = (made / "authority.pem").read_bytes(), (made / "node-1.pem").read_bytes()
    assert command(*arguments).returncode == 0
    assert (made / "authority.pem").read_bytes() == authority
    assert (made / "node-1.pem").read_bytes() != node
    (made / "authority-key.pem").write_text("damaged")
    damaged = command(*arguments)
    assert (damaged.returncode, "choose another directory" in damaged.stderr) == (78, True), damaged.stderr


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0"])
def test_plaintext_beyond_this_machine_has_to_be_asked_for(tmp_path: Path, listen: str) -> None:
    out = tmp_path / "cluster"
    assert command("node", "form", "--nodes", "127.0.0.1:7001", "--replicas", "1", "--out", str(out)).returncode == 0
    data, formed = str(out / "node-1"), str(out / "formation.json")
    node = command("node", "run", "--data", data, "--listen", listen, "--advertise", "127.0.0.1:7001")
    router = command("router", "--formation", formed, "--listen", listen)
    for done in (node, router):
        assert (done.returncode, "--plaintext" in done.stderr) == (2, True), done.stderr


def test_a_router_does_not_say_the_secret_to_far_nodes_in_the_clear(tmp_path: Path) -> None:
    assert (
        command("node", "form", "--nodes", "192.0.2.1:7001", "--replicas", "1", "--out", str(tmp_path)).returncode == 0
    )
    router = command("router", "--formation", str(tmp_path / "formation.json"), "--listen", "127.0.0.1:0")
    assert (router.returncode, "192.0.2.1:7001" in router.stderr) == (2, True), router.stderr


def test_http_asks_for_certificates_where_sdks_have_to_show_them(secured: LocalCluster) -> None:
    files, deployment = secured.directory / "tls", Deployment()
    assert secured.authority is not None
    named = {"--tls-cert": "router.pem", "--tls-key": "router-key.pem"}
    named |= {"--tls-ca": "authority.pem", "--tls-client-ca": "authority.pem"}
    arguments = [word for option, name in named.items() for word in (option, str(files / name))]
    (port,) = free_ports(1)
    try:
        listen = ["--listen", "127.0.0.1:0", "--http", f"127.0.0.1:{port}"]
        deployment.run("router", "router", "--formation", str(secured.formation), *listen, *arguments)
        url = f"https://127.0.0.1:{port}/healthz"
        with pytest.raises(OSError):  # noqa: PT011 - an alert or an end
            urllib.request.urlopen(url, context=ssl.create_default_context(cafile=secured.authority)).read()
        shown = dialling(files, "client", secured.authority)
        with urllib.request.urlopen(url, context=shown) as answer:
            assert answer.status == 200
    finally:
        deployment.stop()
