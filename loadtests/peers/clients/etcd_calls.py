"""Calls of etcd over grpcio, with messages made from ``etcd.proto`` when this is imported, and a lease kept alive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc.aio

TTL_S = 30
KEEPALIVE_S = 10.0
ERRORS = (grpc.aio.AioRpcError,)
MESSAGES: Any = grpc.protos("loadtests/peers/clients/etcd.proto")


class Session:
    """A connection and a lease, which all locks taken through it share."""

    def __init__(self, channel: grpc.aio.Channel, call_timeout_s: float) -> None:
        self._channel = channel
        self._keeping: asyncio.Task[None] | None = None
        self.call_timeout_s = call_timeout_s
        self.lease = 0

    def call(self, method: str, request: str, response: str) -> grpc.aio.UnaryUnaryMultiCallable[Any, Any]:
        encode, decode = getattr(MESSAGES, request).SerializeToString, getattr(MESSAGES, response).FromString
        return self._channel.unary_unary(method, request_serializer=encode, response_deserializer=decode)

    async def open(self) -> None:
        grant = self.call("/etcdserverpb.Lease/LeaseGrant", "LeaseGrantRequest", "LeaseGrantResponse")
        granted = await grant(MESSAGES.LeaseGrantRequest(TTL=TTL_S), wait_for_ready=True)
        assert not granted.error, granted.error
        self.lease = granted.ID
        self._keeping = asyncio.create_task(self._keep_alive())

    async def _keep_alive(self) -> None:
        keep = self._channel.stream_stream(
            "/etcdserverpb.Lease/LeaseKeepAlive",
            request_serializer=MESSAGES.LeaseKeepAliveRequest.SerializeToString,
            response_deserializer=MESSAGES.LeaseKeepAliveResponse.FromString,
        )
        while True:
            try:
                async for answer in keep(self._beats(), wait_for_ready=True):
                    assert answer.TTL > 0, "etcd let the lease end"
            except grpc.aio.AioRpcError:
                pass  # the member is gone; the next one takes over
            await asyncio.sleep(0.1)

    async def _beats(self) -> AsyncIterator[Any]:
        while True:
            yield MESSAGES.LeaseKeepAliveRequest(ID=self.lease)
            await asyncio.sleep(KEEPALIVE_S)

    async def close(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
        await self._channel.close()


async def session(target: Mapping[str, Any]) -> Session:
    # Each session its own connection: equal channels of a process would share one.
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 100)]
    options += [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.min_reconnect_backoff_ms", 50)]
    members = ",".join(f"127.0.0.1:{port}" for port in target["ports"])
    opened = Session(grpc.aio.insecure_channel(f"ipv4:{members}", options=options), target["call_timeout_s"])
    await opened.open()
    return opened
