"""TLS from the SDK to the router: a lock is had, and whoever does not fit is told in time that TLS is why."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

import holdfast
from holdfast import Unavailable

from .running import holdfast as command
from .test_by_hand import Deployment, free_ports

TIMEOUT_S = 1.0


class Service:
    """One node; a router with TLS and one without."""

    def __init__(self, root: Path, deployment: Deployment) -> None:
        (port,) = free_ports(1)
        out = root / "cluster"
        shape = ["--nodes", f"127.0.0.1:{port}", "--groups", "1", "--replicas", "1"]
        self.key = str(json.loads(command("node", "form", *shape, "--out", str(out)).stdout)["api_key"])
        authority = trustme.CA()
        self.authority, certificate, key = root / "authority.pem", root / "certificate.pem", root / "key.pem"
        authority.cert_pem.write_to_path(self.authority)
        issued = authority.issue_cert("127.0.0.1")
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(key)
        deployment.run("node", "node", "run", "--data", str(out / "node-1"))
        router = ["router", "--formation", str(out / "formation.json"), "--listen", "127.0.0.1:0"]
        self.with_tls = deployment.run("tls", *router, "--tls-cert", str(certificate), "--tls-key", str(key))
        self.without = deployment.run("plain", *router)

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authority))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    deployment = Deployment()
    try:
        yield Service(tmp_path_factory.mktemp("tls"), deployment)
        assert deployment.stop() == [0, 0, 0]
    finally:
        for server in deployment.servers.values():
            server.kill()
        deployment.stop()


async def refused(url: str, key: str, tls: ssl.SSLContext | None = None) -> str:
    """What a client is told that cannot connect, in time."""
    began = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        async with holdfast.connect(url, key, timeout=TIMEOUT_S, tls=tls):
            pass
    assert time.monotonic() - began < TIMEOUT_S + 2
    return str(caught.value)


async def test_a_lock_is_had_over_tls(service: Service) -> None:
    async with holdfast.connect(f"holdfasts://{service.with_tls}", service.key, tls=service.trust) as client:
        async with client.lock("a") as lock:
            first = lock.token
            assert await client.try_lock("a") is None
        async with client.lock("a") as lock:
            assert lock.token > first


def test_a_client_that_was_closed_leaves_no_connection_behind(service: Service) -> None:
    program = f"""
import asyncio, ssl, holdfast
async def main():
    trust = ssl.create_default_context(cafile={str(service.authority)!r})
    async with holdfast.connect("holdfasts://{service.with_tls}", {service.key!r}, tls=trust) as client:
        async with client.lock("d"):
            pass
for _ in range(5):
    asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-X", "dev", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, "unclosed" in done.stderr) == (0, False), done.stderr


def test_the_command_line_trusts_what_the_system_trusts(service: Service) -> None:
    settings = {**os.environ, "HOLDFAST_URL": f"holdfasts://{service.with_tls}", "HOLDFAST_API_KEY": service.key}
    trusting = {**settings, "SSL_CERT_FILE": str(service.authority)}
    assert command("lock", "b", "--", "true", environment=trusting).returncode == 0
    status = command("status", environment=trusting)
    assert status.returncode == 0, status.stderr
    distrusting = command("status", environment=settings)
    assert (distrusting.returncode, "certificate" in distrusting.stderr) == (69, True), distrusting.stderr


async def test_a_certificate_that_is_not_trusted(service: Service) -> None:
    told = await refused(f"holdfasts://{service.with_tls}", service.key)
    assert service.with_tls in told
    assert "TLS: the router's certificate cannot be verified: unable to get local issuer certificate" in told
    assert "tls=" in told


async def test_a_certificate_for_another_name(service: Service) -> None:
    port = service.with_tls.rpartition(":")[2]
    told = await refused(f"holdfasts://localhost:{port}", service.key, service.trust)
    assert "TLS: the router's certificate cannot be verified" in told
    assert "'localhost'" in told


async def test_a_client_without_tls_at_a_router_with_it(service: Service) -> None:
    told = await refused(f"holdfast://{service.with_tls}", service.key)
    assert "if it is run with TLS, the URL begins with holdfasts://" in told


async def test_a_client_with_tls_at_a_router_without_it(service: Service) -> None:
    told = await refused(f"holdfasts://{service.without}", service.key, service.trust)
    assert "TLS: " in told
    assert "(if the router is run without TLS, the URL begins with holdfast://)" in told


@pytest.mark.parametrize(("scheme", "words"), [("holdfast", "no WELCOME in time"), ("holdfasts", "in time, with TLS")])
async def test_one_who_accepts_and_says_nothing(scheme: str, words: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        told = await refused(f"{scheme}://127.0.0.1:{silent.getsockname()[1]}", "hf_any")
    assert words in told


async def test_one_who_hangs_up_on_tls() -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        told = await refused(f"holdfasts://127.0.0.1:{server.sockets[0].getsockname()[1]}", "hf_any")
    assert "TLS: " in told
    assert "(if the router is run without TLS, the URL begins with holdfast://)" in told


async def test_no_caller_without_tls_keeps_others_from_the_router(service: Service) -> None:
    host, _, port = service.with_tls.rpartition(":")
    for garbage in (b"", b"GET / HTTP/1.1\r\n\r\n", os.urandom(1000)):
        with socket.create_connection((host, int(port)), 5) as caller:
            caller.sendall(garbage)
            url = f"holdfasts://{service.with_tls}"
            async with holdfast.connect(url, service.key, tls=service.trust) as client, client.lock("c"):
                pass
