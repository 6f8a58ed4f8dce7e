"""What a small round trip costs over the candidates for the frame stream: our stream, plain and with TLS, and gRPC.

Run: python loadtests/stream_shapes.py. Needs grpcio (the dev extra). One process plays both sides, so the CPU figure is
that of both; every candidate echoes the same 200 bytes, in the shapes "one at a time" and "64 at once".
"""

from __future__ import annotations

import asyncio
import datetime
import ssl
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc.aio
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from holdfast.wire.stream import ALPN, Connection

BODY = bytes(200)
ROUNDS = 5
SECONDS = 1.0

Echo = Callable[[], Awaitable[None]]


def certificate(directory: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    cert, private = directory / "cert.pem", directory / "key.pem"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(cert, private)
    server.set_alpn_protocols([ALPN])
    client = ssl.create_default_context(cafile=str(cert))
    client.set_alpn_protocols([ALPN])
    return server, client


async def ours(contexts: tuple[ssl.SSLContext, ssl.SSLContext] | None) -> Echo:
    loop = asyncio.get_running_loop()
    waiting: dict[int, asyncio.Future[None]] = {}
    last = 0

    def echo(connection: Connection, kind: int, group: int, request: int, body: bytes | None) -> None:
        connection.send(kind, group, request, body or b"")

    def answered(connection: Connection, kind: int, group: int, request: int, body: bytes | None) -> None:
        waiting.pop(request).set_result(None)

    server = await loop.create_server(
        lambda: Connection(echo, lambda c, e: None), "127.0.0.1", 0, ssl=contexts[0] if contexts else None
    )
    _, connection = await loop.create_connection(
        lambda: Connection(answered, lambda c, e: None),
        "127.0.0.1",
        server.sockets[0].getsockname()[1],
        ssl=contexts[1] if contexts else None,
        server_hostname="localhost" if contexts else None,
    )

    async def call() -> None:
        nonlocal last
        last += 1
        future = waiting[last] = loop.create_future()
        connection.send(1, 0, last, BODY)
        await future

    return call


class _Handler(grpc.GenericRpcHandler):
    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        if details.method == "/echo/unary":
            return grpc.unary_unary_rpc_method_handler(self._unary)
        return grpc.stream_stream_rpc_method_handler(self._stream)

    async def _unary(self, body: bytes, context: object) -> bytes:
        return body

    async def _stream(self, bodies: object, context: object) -> object:
        async for body in bodies:
            yield body


async def grpc_unary() -> Echo:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    method = grpc.aio.insecure_channel(f"127.0.0.1:{port}").unary_unary("/echo/unary")

    async def call() -> None:
        await method(BODY)

    call.server = server
    return call


async def grpc_stream() -> Echo:
    """A bidirectional stream of messages in order, answered in order."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stream = grpc.aio.insecure_channel(f"127.0.0.1:{port}").stream_stream("/echo/stream")()
    waiting: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    writing = asyncio.Lock()

    async def read() -> None:
        while True:
            await stream.read()
            (await waiting.get()).set_result(None)

    reader = asyncio.create_task(read())

    async def call() -> None:
        future: asyncio.Future[None] = loop.create_future()
        async with writing:
            waiting.put_nowait(future)
            await stream.write(BODY)
        await future

    call.kept = (server, reader)
    return call


async def measure(call: Echo, concurrency: int) -> tuple[float, float]:
    """(round trips a second, CPU µs per round trip of both sides)."""
    count = 0
    end = time.perf_counter() + SECONDS

    async def worker() -> None:
        nonlocal count
        while time.perf_counter() < end:
            await call()
            count += 1

    await call()
    cpu, began = time.process_time(), time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    took = time.perf_counter() - began
    return count / took, (time.process_time() - cpu) / count * 1e6


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        contexts = certificate(Path(directory))
        candidates = {
            "stream, plain": await ours(None),
            "stream, TLS 1.3": await ours(contexts),
            "gRPC bidirectional": await grpc_stream(),
            "gRPC unary": await grpc_unary(),
        }
        print(f"{'candidate':<20} {'at once':>7} {'round trips/s':>14} {'CPU us each':>12}")
        for concurrency in (1, 64):
            # Alternating rounds, so that a neighbour's noise falls on all alike.
            rows: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
            for _ in range(ROUNDS):
                for name, call in candidates.items():
                    rows[name].append(await measure(call, concurrency))
            for name, found in rows.items():
                rate, cpu = (statistics.median(column) for column in zip(*found, strict=True))
                print(f"{name:<20} {concurrency:>7} {rate:>14.0f} {cpu:>12.1f}", flush=True)


if __name__ == "__main__":
    uvloop.run(main())
