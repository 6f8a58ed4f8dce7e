"""What a router counts, as OpenTelemetry instruments that Prometheus may read.

Every value is read from where it is kept anyway, at the moment in which somebody asks: operations pay nothing for it.
Tenants and groups are labels, for there are as many as an operator made; names of locks never are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider, ObservableCounter, ObservableGauge
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from holdfast.wire.errors import Code
from holdfast.wire.limits import TENANTS_MAX
from holdfast.wire.messages import Msg

from .admission.gate import Gate
from .directory import Directory
from .dispatch import GroupDispatch
from .lane import Lane

MEDIA_TYPE: Final = CONTENT_TYPE_LATEST
POINTS_MAX: Final = 4 * TENANTS_MAX
"""Values of one instrument."""

_LANES: Final = ((Msg.OPS, "operations"), (Msg.READ, "reads"))

Observed = Iterator[Observation]
Observe = Callable[[], Observed]


class Metrics:
    """``connections``: of SDKs, open now."""

    def __init__(
        self,
        gate: Gate,
        directory: Directory,
        dispatches: Callable[[], list[GroupDispatch]],
        connections: Callable[[], int],
    ) -> None:
        self._gate = gate
        self._directory = directory
        self._dispatches = dispatches
        self._connections = connections
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        reader = PrometheusMetricReader(
            scope_info_enabled=False,
            disable_target_info=True,
            registry=self._registry,
            cardinality_limits={ObservableCounter: POINTS_MAX, ObservableGauge: POINTS_MAX},
        )
        self._provider = MeterProvider([reader], shutdown_on_exit=False)
        self._instruments()

    def exposition(self) -> bytes:
        """In the text format of Prometheus. With thousands of tenants it takes a while: to be called in a thread."""
        return generate_latest(self._registry)

    def close(self) -> None:
        self._provider.shutdown()

    def _instruments(self) -> None:
        meter = self._provider.get_meter("holdfast.router")

        def counter(name: str, observe: Observe, description: str) -> None:
            meter.create_observable_counter(f"holdfast.{name}", [lambda options: observe()], description=description)

        def gauge(name: str, observe: Observe, description: str) -> None:
            meter.create_observable_gauge(f"holdfast.{name}", [lambda options: observe()], description=description)

        counter(
            "admission.operations",
            self._admission,
            "Operations admitted, or refused by a quota of their tenant or for load",
        )
        counter("group.refused", self._refused, "Operations refused for load, or for want of time or a leader, by code")
        gauge("group.waiting", self._lanes(lambda lane: lane.operations), "Operations that wait to be sent")
        gauge("group.in_flight", self._lanes(lambda lane: lane.limit.under_way), "Operations sent, not answered yet")
        gauge("group.in_flight.limit", self._lanes(lambda lane: lane.limit.limit), "How many may be sent")
        gauge("group.led", self._groups(lambda one: one.leader > 0), "Whether a leader is known")
        gauge(
            "group.breaker.open", self._groups(lambda one: one.breaker.open), "Whether it has answered nothing lately"
        )
        gauge("connections", self._one(self._connections), "Connections of SDKs")
        gauge("meta.fresh", self._one(lambda: self._directory.is_fresh), "Whether the meta group is heard")
        gauge("redis.shared", self._redis("shared"), "Whether rates are shared through Redis")
        counter("redis.fallbacks", self._redis("redis_fallbacks"), "Times that Redis did not answer in time")
        counter("redis.calls", self._redis("redis_calls"), "Calls of the script in Redis")

    def _admission(self) -> Observed:
        for number, counts in list(self._gate.counts.items()):
            tenant = self._directory.tenant(number)
            for outcome, operations in list(counts.items()):  # asked for in a thread
                if tenant is not None:
                    yield Observation(operations, {"tenant": tenant.id, "outcome": outcome})

    def _refused(self) -> Observed:
        for dispatch in self._dispatches():
            for code, operations in list(dispatch.refusals.items()):
                yield Observation(operations, {"group": dispatch.group, "code": Code(code).name})

    def _one(self, value: Callable[[], int]) -> Observe:
        return lambda: iter([Observation(int(value()))])

    def _lanes(self, value: Callable[[Lane], float]) -> Observe:
        def observe() -> Observed:
            for dispatch in self._dispatches():
                for kind, name in _LANES:
                    yield Observation(value(dispatch.lanes[kind]), {"group": dispatch.group, "kind": name})

        return observe

    def _groups(self, value: Callable[[GroupDispatch], bool]) -> Observe:
        return lambda: (Observation(int(value(one)), {"group": one.group}) for one in self._dispatches())

    def _redis(self, name: str) -> Observe:
        """Nothing when there is no Redis."""

        def observe() -> Observed:
            found: Any = self._gate.status().get(name)
            if found is not None:
                yield Observation(int(found))

        return observe
