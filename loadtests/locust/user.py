"""What users have in common, whatever way they take."""

from __future__ import annotations

import itertools
import secrets
from collections import defaultdict
from collections.abc import Callable
from typing import Any, ClassVar

from locust import constant_pacing
from locust.env import Environment

from .vocabulary import NotDone, Outcome, Vocabulary
from .witness import Witness


class BrokenPromise(Exception):
    """The service did what it says it never does."""


class Customer(Vocabulary):
    """A user of one tenant, to be mixed into one of Locust's.

    A scenario says what a user does in ``step``, over and over, at most ``--rate`` times a second; ``prepare`` comes
    once before.
    """

    environment: Environment
    label: ClassVar[str] = ""
    """Before the verbs of users that are not to be judged with the others."""
    tenant: ClassVar[int | None] = None
    """Which of the tenants; all of them in turn when that is left open."""
    pace: ClassVar[float] = 1.0
    """Part of ``--rate``; 0: as fast as it goes."""

    _numbers: ClassVar = itertools.count()
    _witnesses: ClassVar[dict[str, Witness]] = defaultdict(Witness)

    @property
    def options(self) -> Any:
        """What Locust was started with, and the tenants' keys."""
        return self.environment.parsed_options

    def connect(self) -> None:
        """Raises :class:`NotDone`."""
        raise NotImplementedError

    def disconnect(self) -> None:
        raise NotImplementedError

    def prepare(self) -> None:
        """Nothing, unless a scenario needs it."""

    def step(self) -> None:
        raise NotImplementedError

    def on_start(self) -> None:
        keys = self.options.api_keys
        number = next(Customer._numbers) if self.tenant is None else self.tenant
        self.api_key: str = keys[number % len(keys)]
        self.witness = Customer._witnesses[self.api_key]
        self.own = f"load/{secrets.token_hex(6)}"
        """Begins the names that no other user uses."""
        self._until_done(self.connect)
        self._until_done(self.prepare)

    def on_stop(self) -> None:
        self.disconnect()

    def wait_time(self) -> float:
        own: Any = self  # a User as well, once it is mixed into one
        wait_s: float = constant_pacing(1 / (self.pace * self.options.rate))(own) if self.pace else 0.0
        return wait_s

    def perform(self) -> None:
        try:
            self.step()
        except NotDone as why:
            self.pause(why)

    def _until_done(self, what: Callable[[], None]) -> None:
        while True:
            try:
                what()
            except NotDone as why:
                self.pause(why)
            else:
                return

    # Counting.

    def count_one(self, kind: str, verb: str, took_ms: float, why: NotDone | None) -> None:
        """One operation. Only what should not have been is a failure to Locust; refusals are rows of their own."""
        self.environment.events.request.fire(
            request_type=kind,
            response_time=took_ms,
            response_length=0,
            **self.row(verb, why),
        )

    def row(self, verb: str, why: NotDone | None) -> dict[str, Any]:
        """How Locust's event tells what came of an operation."""
        outcome = why.outcome if why else Outcome.DONE
        verb = f"{self.label} {verb}".strip()
        ordinary = outcome in (Outcome.DONE, Outcome.FAILED)
        return {
            "name": verb if ordinary else f"{verb} ({outcome})",
            "exception": why if outcome is Outcome.FAILED else None,
            "context": {"verb": verb, "outcome": str(outcome), "judged": not self.label},
        }

    def accuse(self, fault: str) -> None:
        row = {**self.row("promise", None), "exception": BrokenPromise(fault)}
        row["context"]["outcome"] = str(Outcome.FAILED)
        self.environment.events.request.fire(request_type="CHECK", response_time=0.0, response_length=0, **row)
