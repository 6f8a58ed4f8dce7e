"""The cluster's status for whoever asks: every node's own account beside the router's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from holdfast.wire.frames import encode
from holdfast.wire.messages import Msg
from holdfast.wire.tenants import OPERATOR

from .downstream import Downstream
from .showing import for_tenants
from .upstream import Upstream

STATUS_TIMEOUT_S = 1.0
STATUS_KEPT_S = 0.1
"""However many ask, the nodes are asked no more often."""


class ClusterStatus:
    """``router`` gives the router's own account."""

    def __init__(self, upstream: Upstream, router: Callable[[], dict[str, object]]) -> None:
        self._upstream = upstream
        self._router = router
        self._loop = asyncio.get_running_loop()
        self._askers: list[tuple[Downstream, int]] = []
        self._bodies = (b"", b"")
        """The operator's and the tenants'."""
        self._at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    def on_asked(self, caller: Downstream, request: int) -> None:
        caller.asked()
        self._askers.append((caller, request))
        if self._loop.time() - self._at < STATUS_KEPT_S:
            self._tell()
        elif not self._tasks:
            task = asyncio.create_task(self._gather(), name="status")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _tell(self) -> None:
        askers, self._askers = self._askers, []
        for caller, request in askers:
            caller.answered()
            rules = caller.principal is not None and caller.principal.tenant == OPERATOR
            caller.connection.send(Msg.STATUS, 0, request, self._bodies[0 if rules else 1])

    async def _gather(self) -> None:
        addresses = dict(self._upstream.addresses)
        found = await asyncio.gather(*(self._upstream.status(node, STATUS_TIMEOUT_S) for node in addresses))
        nodes = [
            status if status is not None else {"node": node, "address": address, "up": False, "groups": []}
            for (node, address), status in zip(addresses.items(), found, strict=True)
        ]
        whole = {"whole": True, "router": self._router(), "nodes": nodes}
        self._bodies = encode(whole), encode(for_tenants(whole))
        self._at = self._loop.time()
        self._tell()

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
