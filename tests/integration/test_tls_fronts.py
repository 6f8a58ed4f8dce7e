"""TLS through HTTP and gRPC, as through the frame stream: 1.3 alone, trusted or nothing, changed without a restart."""

from __future__ import annotations

import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest

from holdfast.cluster import LocalCluster, Shape
from holdfast.cluster.certificates import make_certificates
from tests.grpc.calling import Api, refused

from ..cli.processes import wait_until
from .test_by_hand import Deployment, free_ports
from .test_certificates import formation

FRONTS = ("frame stream", "HTTP", "gRPC")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path_factory.mktemp("fronts"), shape=Shape(1, 1, 1), tls=True) as cluster:
        yield cluster


def authority_of(cluster: LocalCluster) -> Path:
    assert cluster.authority is not None
    return cluster.authority


def where(cluster: LocalCluster, front: str) -> tuple[str, int]:
    listening = {"HTTP": cluster.http_url.rpartition("/")[2], "gRPC": cluster.grpc_address}
    if front not in listening:
        return cluster.address
    host, _, port = listening[front].rpartition(":")
    return host, int(port)


def channel_of(cluster: LocalCluster) -> grpc.aio.Channel:
    credentials = grpc.ssl_channel_credentials(authority_of(cluster).read_bytes())
    return grpc.aio.secure_channel(cluster.grpc_address, credentials)


async def test_a_lock_is_had_through_http_and_grpc_over_tls(secured: LocalCluster) -> None:
    assert secured.http_url.startswith("https://")
    trust = ssl.create_default_context(cafile=authority_of(secured))
    headers = {"Authorization": f"Bearer {secured.api_key}"}
    async with (
        httpx.AsyncClient(base_url=secured.http_url, headers=headers, verify=trust) as http,
        channel_of(secured) as channel,
    ):
        granted = (await http.post("/v1/acquire", json={"name": "a"})).json()
        api = Api(channel, secured.api_key)
        blocked = await refused(api.acquire("a"))
        assert blocked.reason == "LOCK_TIMEOUT"
        assert (await http.post("/v1/release", json={"lock_id": granted["lock_id"]})).status_code == 200
        await api.release(await api.acquire("a"))


@pytest.mark.parametrize("front", FRONTS)
def test_tls_is_of_version_1_3_alone(secured: LocalCluster, front: str) -> None:
    with shake_hands(secured, front, ssl.TLSVersion.TLSv1_3) as stream:
        assert stream.version() == "TLSv1.3"
    with pytest.raises(OSError):  # noqa: PT011 - an alert or an end
        shake_hands(secured, front, ssl.TLSVersion.TLSv1_2)


def shake_hands(cluster: LocalCluster, front: str, version: ssl.TLSVersion) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=authority_of(cluster))
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2"] if front == "gRPC" else ["http/1.1"])
    plain = socket.create_connection(where(cluster, front), 5)
    try:
        return context.wrap_socket(plain, server_hostname="127.0.0.1")
    except BaseException:
        plain.close()
        raise


async def test_without_tls_or_trust_nothing_is_had(secured: LocalCluster) -> None:
    plain_url = secured.http_url.replace("https", "http")
    for url in (plain_url, secured.http_url):
        async with httpx.AsyncClient(base_url=url) as http:
            with pytest.raises(httpx.TransportError):
                await http.get("/healthz")
    for channel in (
        grpc.aio.insecure_channel(secured.grpc_address),
        grpc.aio.secure_channel(secured.grpc_address, grpc.ssl_channel_credentials()),
    ):
        async with channel:
            answer = await refused(Api(channel, secured.api_key).acquire("a"))
            assert answer.status == grpc.StatusCode.UNAVAILABLE


def test_new_certificates_are_shown_by_every_front(secured: LocalCluster) -> None:
    def serials() -> list[str]:
        found = []
        for front in FRONTS:
            with shake_hands(secured, front, ssl.TLSVersion.TLSv1_3) as stream:
                shown = stream.getpeercert()
                assert shown is not None
                found.append(str(shown["serialNumber"]))
        return found

    before = serials()
    assert len(set(before)) == 1
    make_certificates(secured.directory / "tls", formation(secured)["cluster"], [1])
    secured.router.signal(signal.SIGHUP)
    wait_until(lambda: not {*serials()} & {*before}, "the new certificate at every front")
    assert len(set(serials())) == 1


async def test_grpc_asks_for_certificates_where_sdks_have_to_show_them(secured: LocalCluster) -> None:
    files, deployment = secured.directory / "tls", Deployment()
    named = {"--tls-cert": "router.pem", "--tls-key": "router-key.pem"}
    named |= {"--tls-ca": "authority.pem", "--tls-client-ca": "authority.pem"}
    arguments = [word for option, name in named.items() for word in (option, str(files / name))]
    (port,) = free_ports(1)
    try:
        listen = ["--listen", "127.0.0.1:0", "--http", "", "--grpc", f"127.0.0.1:{port}"]
        deployment.run("router", "router", "--formation", str(secured.formation), *listen, *arguments)
        authority = authority_of(secured).read_bytes()
        address = f"127.0.0.1:{port}"
        async with grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(authority)) as channel:
            assert (await refused(asked(channel))).status == grpc.StatusCode.UNAVAILABLE
        key, certificate = [(files / name).read_bytes() for name in ("client-key.pem", "client.pem")]
        shown = grpc.ssl_channel_credentials(authority, key, certificate)
        async with grpc.aio.secure_channel(address, shown) as channel:
            assert await asked(channel)
    finally:
        deployment.stop()


async def asked(channel: grpc.aio.Channel) -> bool:
    """The health service, which needs no key."""
    check: Any = channel.unary_unary("/grpc.health.v1.Health/Check", HealthCheckRequest.SerializeToString)
    return bool(await check(HealthCheckRequest(), timeout=10))
