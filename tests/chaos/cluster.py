"""A local cluster whose nodes have links and clocks of their own, with more than one router."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from holdfast.cluster import LocalCluster, ServerProcess, Shape

from .network import HUB, Links

NODES: Final = 3
SECOND_ROUTER: Final = NODES + 1
"""As a host of the network. The first router runs beside the clients, on the hub."""
DRIFTING: Final = 2
"""The node all of whose clocks are fast, by less than is allowed."""
DRIFT: Final = 1.003
JUMPING: Final = 3
"""The node whose wall clock jumps."""
CLOCK_FILE: Final = "wall-clock"


def libfaketime() -> Path | None:
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)


class ChaosCluster(LocalCluster):
    """``links``: made and unmade with the cluster; without them everybody is on the loopback interface. ``routers``:
    1, or 2 of which the second is on a host of its own. ``clocks``: under libfaketime, one node drifts and another's
    wall clock can jump."""

    def __init__(
        self,
        data: Path | None = None,
        *,
        shape: Shape | None = None,
        links: Links | None = None,
        routers: int = 1,
        clocks: Path | None = None,
    ) -> None:
        super().__init__(data, shape=shape)
        self.links = links
        self._router_count = routers
        self._clocks = clocks
        self._second: ServerProcess | None = None
        self._second_address = ""

    @property
    def routers(self) -> list[ServerProcess]:
        return [self.router, *([self._second] if self._second is not None else [])]

    @property
    def urls(self) -> str:
        """All routers, as one URL."""
        return ",".join([self.url, *([self._second_address] if self._second is not None else [])])

    def start(self, timeout_s: float = 30.0) -> None:
        if self._clocks is not None:
            self.turn_clock("+0")
        if self.links is not None:
            self.links.make()
        super().start(timeout_s)
        if self._router_count == 2:
            self._start_second()

    def stop(self) -> None:
        if self._second is not None:
            self._second.kill()
        super().stop()
        if self.links is not None:
            self.links.unmake()

    def node_addresses(self, count: int) -> list[str]:
        if self.links is None:
            return super().node_addresses(count)
        return [self.links.reach(number) for number in range(1, count + 1)]

    def node_prefix(self, number: int) -> list[str]:
        return [*(self.links.prefix(number) if self.links is not None else []), *self._clock_of(number)]

    def node_arguments(self, number: int) -> list[str]:
        if self.links is None:
            return []
        if self.links.listen(number) == self.links.reach(number):
            return ["--plaintext"]
        return ["--plaintext", "--listen", self.links.listen(number), "--advertise", self.links.reach(number)]

    def router_arguments(self) -> list[str]:
        return ["--plaintext"] if self.links is not None else []

    def restart_one(self, router: ServerProcess, timeout_s: float = 30.0) -> None:
        """Start that router again, at the same address."""
        router.kill()
        router.start()
        router.await_listening(time.monotonic() + timeout_s)

    def turn_clock(self, offset: str) -> None:
        """Make the jumping node's wall clock differ by so much (libfaketime's notation) within a second."""
        part = self.directory.with_name(f"{CLOCK_FILE}.part")
        part.write_text(offset + "\n")
        part.replace(part.with_name(CLOCK_FILE))

    def _clock_of(self, number: int) -> list[str]:
        if self._clocks is None or number not in (DRIFTING, JUMPING):
            return []
        clock = ["env", f"LD_PRELOAD={self._clocks}"]
        if number == DRIFTING:
            return [*clock, f"FAKETIME=+0 x{DRIFT}"]
        file = self.directory.with_name(CLOCK_FILE).absolute()
        # What is promised is that jumps of the *wall* clock do not matter; the monotonic one has none to begin with.
        settings = ["FAKETIME_CACHE_DURATION=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"]
        return [*clock, f"FAKETIME_TIMESTAMP_FILE={file}", *settings]

    def _start_second(self) -> None:
        listen = self.links.listen(SECOND_ROUTER) if self.links is not None else "127.0.0.1:0"
        prefix = self.links.prefix(SECOND_ROUTER) if self.links is not None else []
        arguments = ["holdfast_router", "--formation", str(self.formation)]
        arguments += [*self.router_arguments(), "--http", "", "--listen", listen]
        log = self.directory / "logs" / "router-2.log"
        second = self._second = ServerProcess("router 2", arguments, log, self.guardian, prefix)
        second.start()
        second.arguments[-1] = str(second.await_listening(time.monotonic() + 30.0)["address"])
        self._second_address = self.links.reach(SECOND_ROUTER) if self.links is not None else second.arguments[-1]

    def host_of(self, router: ServerProcess) -> int:
        return HUB if router is self.router else SECOND_ROUTER
