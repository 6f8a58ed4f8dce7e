"""What a node with a replica of the meta group tells the routers that are connected to it, and writes to its log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from holdfast.wire.frames import encode
from holdfast.wire.messages import Beat, Msg, delta_between

from ..machine import MetaMachine
from .audit_file import AuditFile
from .service import Replica

BEAT_S = 1.0


class MetaWatch:
    """Every connection hears the whole record once, and then each change from there on without a gap."""

    def __init__(
        self,
        machine: MetaMachine,
        replica: Replica,
        audit: AuditFile,
        *,
        broadcast: Callable[[Msg, bytes], object],
        routers: Callable[[], int],
    ) -> None:
        self._machine = machine
        self._replica = replica
        self._audit = audit
        self._broadcast = broadcast
        self._routers = routers
        self._told = machine.record
        self._leads = False
        self._timer: asyncio.TimerHandle | None = None

    def greeting(self) -> list[tuple[Msg, bytes]]:
        """What a router is told when it connects."""
        said = [(Msg.META, encode(self._told))]
        if self._leads:
            said.append((Msg.BEAT, self._beat()))
        return said

    def look(self) -> bool:
        """After every turn of the engine: pass on what has changed. Returns whether the record has."""
        self._audit.follow(self._machine.tenancy.audit)
        changed = self._machine.version != self._told.version
        if changed:
            record = self._machine.record
            self._broadcast(Msg.TENANTS, encode(delta_between(self._told, record)))
            self._told = record
        if self._replica.ready != self._leads:
            self._leads = self._replica.ready
            self._tick()
        return changed

    def close(self) -> None:
        self._stop_timer()
        self._audit.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        self._stop_timer()
        if self._leads:
            self._broadcast(Msg.BEAT, self._beat())
            self._timer = asyncio.get_running_loop().call_later(BEAT_S, self._tick)

    def _beat(self) -> bytes:
        return encode(Beat(self._told.version, self._routers()))
