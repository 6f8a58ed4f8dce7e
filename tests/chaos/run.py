"""One run: a cluster, client processes, faults by a seed; then everything is mended, and what was seen is judged."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import holdfast
from holdfast.cluster import ClusterError, ClusterStatus
from holdfast.errors import HoldfastError

from .cluster import ChaosCluster, libfaketime
from .events import EventFile, now, read_events
from .faults import FAULTS, Need, missing_needs
from .history import History
from .judge import violations
from .nemesis import Nemesis, Span
from .network import Network
from .proxy import Proxies
from .recorder import Recorder, Wish
from .scene import READY_S
from .sets import Set, SetStore
from .workers import Workers
from .workload import CAPACITY, NAMES

HOSTS: Final = 4
"""Three nodes and the second router."""
FINISH_S: Final = 45.0
"""After the faults, whatever is under way has an answer within this: the longest wait, and a lease that runs out."""
HAD_S: Final = 15.0
"""And then every name can be had within this."""
EVEN_S: Final = 15.0
"""And replicas have come to the same index within this."""


@dataclass(frozen=True, slots=True)
class Plan:
    """``seed`` decides the faults and what the clients do: ``workers`` processes with ``callers`` callers each."""

    seconds: float
    seed: str
    directory: Path
    workers: int = 4
    callers: int = 4
    proxies: bool = False
    """Links through a proxy, as on a machine that has nothing better."""


@dataclass(slots=True)
class Report:
    began: float
    ended: float = 0.0
    history: History = field(default_factory=History)
    spans: list[Span] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    missing: dict[Need, str] = field(default_factory=dict)
    """What this machine does not have, and why."""
    added: dict[Set, int] = field(default_factory=dict)
    """Elements whose adding was acknowledged."""
    lost: dict[Set, int] = field(default_factory=dict)
    """Those of them that the set does not have."""

    def gaps_s(self, lane: str) -> list[float]:
        """The longest time without a grant at each fault of that lane."""
        return self.history.gaps(self.began, self.ended, [span.began for span in self.spans if span.lane == lane])


def make(plan: Plan, progress: Callable[[Nemesis], None]) -> Report:
    """Run it. What it leaves is in ``plan.directory``; ``progress`` is called now and then."""
    missing = missing_needs()
    links = Proxies(HOSTS) if plan.proxies or Need.NETWORK in missing else Network(HOSTS)
    clients = plan.directory / "clients"
    clients.mkdir(parents=True)
    with ChaosCluster(plan.directory / "cluster", links=links, routers=2, clocks=libfaketime()) as cluster:
        workers = Workers(clients, cluster.guardian, cluster.urls, cluster.api_key, plan.seed, plan.callers)
        SetStore(workers.store).close()
        faults = [fault for fault in FAULTS if fault.need not in missing]
        nemesis = Nemesis(cluster, workers, faults, plan.seed)
        report = asyncio.run(_Run(plan, cluster, workers, nemesis).go(progress))
    report.missing = missing
    return report


class _Run:
    def __init__(self, plan: Plan, cluster: ChaosCluster, workers: Workers, nemesis: Nemesis) -> None:
        self._plan = plan
        self._cluster = cluster
        self._workers = workers
        self._nemesis = nemesis
        self._report = Report(now())

    async def go(self, progress: Callable[[Nemesis], None]) -> Report:
        report = self._report
        await asyncio.to_thread(self._workers.start, self._plan.workers)
        report.began = now()
        telling = asyncio.create_task(self._tell(progress))
        try:
            await self._nemesis.run(report.began + self._plan.seconds)
        except ExceptionGroup:
            pass  # told below, with what it was done to
        report.ended = now()
        telling.cancel()
        report.spans = self._nemesis.spans
        for span in report.spans:
            if span.trouble:
                self._broken(f"{span.fault} ({span.chose}) at {span.began:.6f} did not end well", span.trouble)
        await self._come_to_an_end()
        self._judge()
        return report

    async def _tell(self, progress: Callable[[Nemesis], None]) -> None:
        while True:
            progress(self._nemesis)
            await asyncio.sleep(0.2)

    def _broken(self, what: str, *why: object) -> None:
        self._report.violations.append(": ".join([what, *(str(part) or repr(part) for part in why)]))

    async def _come_to_an_end(self) -> None:
        """Liveness: with all faults over, everybody gets an answer, every name is had, and replicas agree."""
        try:
            await asyncio.to_thread(self._cluster.ready, READY_S, all_nodes=True)
        except ClusterError as error:
            self._broken("the cluster is not whole after the faults", error)
        for wrong in await asyncio.to_thread(self._workers.finish, FINISH_S):
            self._broken("a client did not come to an end", wrong)
        recorder = Recorder("end", EventFile(self._workers.directory / "worker-end.jsonl"))
        async with holdfast.connect(self._cluster.urls, self._cluster.api_key) as client:
            names = [*(Wish(name, mode, CAPACITY, CAPACITY, wait=HAD_S) for name, mode in NAMES)]
            names += [Wish(f"set/{name}", wait=HAD_S) for name in Set]
            await asyncio.gather(*(self._have(client, recorder, wish) for wish in names))
        await self._replicas_agree()

    async def _have(self, client: holdfast.Client, recorder: Recorder, wish: Wish) -> None:
        try:
            await recorder.release(await recorder.acquire(client, wish))
        except HoldfastError as error:
            self._broken(f"{wish.name!r} could not be had after the faults", error)

    async def _replicas_agree(self) -> None:
        ends = now() + EVEN_S
        while True:
            status = await asyncio.to_thread(self._cluster.status)
            if _even(status) or now() >= ends:
                break
            await asyncio.sleep(0.1)
        if not _even(status):
            self._broken("replicas do not come to the same index")
        for found in status.diverged():
            self._broken("replicas diverged", found)

    def _judge(self) -> None:
        report, history = self._report, History.of(read_events(self._workers.histories()))
        report.history = history
        report.violations += violations(history)
        store = SetStore(self._workers.store)
        for name in Set:
            report.added[name] = len(history.added[name])
            report.lost[name] = len(set(history.added[name]) - set(store.members(name)))
        store.close()
        if report.lost[Set.GUARDED]:
            self._broken(f"{report.lost[Set.GUARDED]} acknowledged elements of the guarded set were lost")
        for log in sorted((self._cluster.directory / "logs").iterdir()):
            lines = log.read_text(errors="replace").splitlines()
            if any("Traceback" in line and os.strerror(errno.ENOSPC) not in line for line in lines):
                self._broken(f"{log.name} shows an error that is no full disk's")


def _even(status: ClusterStatus) -> bool:
    """Whether all replicas of each group show their digest at the same index."""
    places = {(group.group, group.digest_index) for node in status.nodes for group in node.groups}
    return len(places) == len({group for group, _ in places})
