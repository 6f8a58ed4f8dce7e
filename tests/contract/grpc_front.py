"""gRPC as a way in which a case is played."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from holdfast.v1 import locks_pb2 as pb
from holdfast.v1 import sessions_pb2 as spb
from holdfast.v1.types_pb2 import LOCK_MODE_PERMITS, LOCK_MODE_SHARED, GrantRef
from tests.grpc.calling import Api, Refusal

from .cases import Step
from .fronts import TTL_MS, Failed


def _duration(milliseconds: int) -> Duration:
    return Duration(seconds=milliseconds // 1000, nanos=milliseconds % 1000 * 1_000_000)


class Grpc:
    def __init__(self, address: str, key: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self._api = Api(self._channel, key)

    async def close(self) -> None:
        await self._channel.close()

    async def play(self, step: Step, prefix: str, of: Any, under: Any) -> tuple[Any, dict[str, Any]]:
        try:
            return await self._play(step, prefix + step.name if step.name else "", of, under)
        except grpc.aio.AioRpcError as error:
            raise Failed(Refusal(error).reason.lower().replace("_", "-")) from error

    async def _play(self, step: Step, name: str, of: Any, under: Any) -> tuple[Any, dict[str, Any]]:
        api = self._api
        match step.do:
            case "acquire":
                return await self._acquire(step, name, under), {}
            case "release":
                await api.release(of)
            case "renew":
                ref = GrantRef(name=of.name, token=of.token)
                renewed = await api.locks("Renew", pb.RenewRequest(grant=ref, ttl=_duration(400)))
                return None, {"expires_in_ms": renewed.expires_in.ToMilliseconds()}
            case "check":
                return None, {"held": await api.held(of)}
            case "get":
                lock = (await api.locks("Get", pb.GetRequest(name=name))).lock
                held = lock.holder_count > 0
                return None, {"held": held, "waiters": lock.waiters, "holders": lock.holder_count}
            case "list":
                page = await api.locks("List", pb.ListRequest(prefix=name))
                return None, {"names": len(page.locks)}
            case "break":
                await api.locks("ForceRelease", pb.ForceReleaseRequest(name=name, reason="test"))
            case "session":
                return await api.sessions("Create", spb.CreateRequest(ttl=_duration(TTL_MS))), {}
            case "keep":
                await api.sessions("KeepAlive", spb.KeepAliveRequest(session=of.session))
            case "listed":
                listed = await api.sessions("ListSessions", spb.ListSessionsRequest(page_size=1000))
                return None, {"held": sum(part.held for part in listed.parts if part.id == of.id)}
            case "batch":
                return None, {"codes": await self._batch(name, of)}
            case "end":
                await api.sessions("End", spb.EndRequest(session=of.session))
        return None, {}

    async def _acquire(self, step: Step, name: str, under: Any) -> Any:
        given = {"ttl_ms": TTL_MS, **step.given}
        fields: dict[str, Any] = {"ttl": _duration(given.pop("ttl_ms")), "wait": _duration(given.pop("wait_ms", 0))}
        given.pop("renew", None)
        if given.pop("shared", False):
            fields["mode"] = LOCK_MODE_SHARED
        if "capacity" in given:
            fields["mode"] = LOCK_MODE_PERMITS
        if under is not None:
            fields["session"] = under.session
        return await self._api.acquire(name, **fields, **given)

    async def _batch(self, name: str, of: Any) -> list[str]:
        acquire = pb.AcquireRequest(name=name, ttl=_duration(TTL_MS))
        release = pb.ReleaseRequest(grant=GrantRef(lock_id=of.lock_id))
        operations = [pb.BatchOperation(acquire=acquire), pb.BatchOperation(release=release)]
        response = await self._api.locks("Batch", pb.BatchRequest(operations=operations))
        return [
            result.error.reason.lower().replace("_", "-") if result.HasField("error") else ""
            for result in response.results
        ]
