"""Shapes of load, chosen by ``--shape``.

``-u`` is the most users there are at a time and ``-t`` how long it all takes.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar, Final

from locust import LoadTestShape
from locust.user import User

from .plans import RAMP_S, Stage, Turn, soak, spike, stage_at, steps


class PlannedShape(LoadTestShape):
    """Keeps in ``turns`` what it did when, for what was planned is not quite what happened."""

    abstract: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.turns: list[Turn] = []

    def stages(self, users: int, seconds: float) -> tuple[Stage, ...]:
        raise NotImplementedError

    def tick(self) -> tuple[int, float] | tuple[int, float, list[type[User]] | None] | None:
        assert self.runner is not None, "Locust ticks a shape once it has a runner"
        options: Any = self.runner.environment.parsed_options
        stage = stage_at(self.stages(options.num_users, options.run_time), self.get_run_time())
        if stage is None:
            return None
        before = self.turns[-1].users if self.turns else 0
        if stage.users != before:
            self.turns.append(Turn(time.time(), stage.users))
        # The rate is per second, and the same while a stage lasts: a change is taken for another stage.
        return stage.users, max(options.num_users / RAMP_S, 1.0)


class Steps(PlannedShape):
    abstract: ClassVar[bool] = False

    def stages(self, users: int, seconds: float) -> tuple[Stage, ...]:
        return steps(users, seconds)


class Spike(PlannedShape):
    abstract: ClassVar[bool] = False

    def stages(self, users: int, seconds: float) -> tuple[Stage, ...]:
        return spike(users, seconds)


class Soak(PlannedShape):
    abstract: ClassVar[bool] = False

    def stages(self, users: int, seconds: float) -> tuple[Stage, ...]:
        return soak(users, seconds)


SHAPES: Final[dict[str, type[PlannedShape]]] = {"steps": Steps, "spike": Spike, "soak": Soak}
