"""What a user can ask of the service, whatever way it takes, and what can come of it."""

from __future__ import annotations

import enum
import random
import time
from typing import Any, Final

import msgspec

from .witness import Witness

TTL_S: Final = 30.0
RELEASE_ATTEMPTS: Final = 5
REST_AFTER_FAILURE_S: Final = 0.1
JITTER: Final = 0.25

TOO_MUCH: Final = frozenset({"throttled", "quota-exceeded"})
"""Refused with 429: the tenant has used up what is its own."""
NOT_NOW: Final = frozenset({"overloaded", "unavailable", "rejected"})
"""Refused with 503: the service cannot at the moment, and did nothing."""
BUSY: Final = frozenset({"lock-timeout"})


class Outcome(enum.StrEnum):
    DONE = "done"
    BUSY = "busy"
    """Others held the lock for as long as the user would wait: an answer like any other."""
    TOO_MUCH = "refused 429"
    NOT_NOW = "refused 503"
    FAILED = "failed"


class NotDone(Exception):
    """``code`` is the service's stable code of an error, the same whatever way it came."""

    def __init__(self, code: str, text: str = "", retry_after_ms: int = 0) -> None:
        super().__init__(f"{code}: {text}" if text else code)
        self.code = code
        self.retry_after_ms = retry_after_ms

    @property
    def outcome(self) -> Outcome:
        if self.code in BUSY:
            return Outcome.BUSY
        if self.code in TOO_MUCH:
            return Outcome.TOO_MUCH
        return Outcome.NOT_NOW if self.code in NOT_NOW else Outcome.FAILED

    @property
    def refused(self) -> bool:
        return self.outcome in (Outcome.TOO_MUCH, Outcome.NOT_NOW)


class Grant(msgspec.Struct, frozen=True):
    name: str
    token: int
    lock_id: str
    until_s: float
    """Until when it was believed held at the time of the grant, of CLOCK_MONOTONIC, which all processes of a machine
    share."""


class Vocabulary:
    """What scenarios are written in. Every call raises :class:`NotDone`, and is counted by whoever carries it out.

    Not an ABC, for it is mixed into Locust's users, which have a metaclass of their own.
    """

    witness: Witness
    """Of the tenant: names of different tenants are different locks."""

    def ask(self, verb: str, **arguments: Any) -> Any:
        """Carry out one operation and count what came of it. Raises :class:`NotDone`."""
        raise NotImplementedError

    def accuse(self, fault: str) -> None:
        """Count a broken promise of the service as a failure."""
        raise NotImplementedError

    def acquire(
        self, name: str, *, wait_s: float = 0.0, permits: int = 0, capacity: int = 0, session: str = ""
    ) -> Grant:
        """``permits`` of a semaphore of ``capacity``; a lock when that is 0."""
        wanted = {"name": name, "wait_s": wait_s, "permits": permits, "capacity": capacity, "session": session}
        grant = msgspec.convert(self.ask("acquire", **wanted), Grant)
        if fault := self.witness.granted(grant.name, grant.token, grant.until_s, permits or 1, capacity or 1):
            self.accuse(fault)
        return grant

    def release(self, grant: Grant) -> None:
        """Asked again when it was refused, for what is not let go of keeps others waiting until its lease runs out."""
        self.witness.let_go(grant.name, grant.token)
        for _ in range(RELEASE_ATTEMPTS - 1):
            try:
                self._of("release", grant)
                return
            except NotDone as why:
                if not why.refused:
                    raise
                self.pause(why)
        self._of("release", grant)

    def renew(self, grant: Grant) -> None:
        self._of("renew", grant)

    def check(self, grant: Grant) -> bool:
        return bool(self._of("check", grant))

    def get(self, name: str) -> int:
        """How many hold it."""
        return int(self.ask("get", name=name))

    def count(self, prefix: str) -> int:
        """How many names under it are in use, of the first hundred."""
        return int(self.ask("list", prefix=prefix))

    def open_session(self) -> str:
        return str(self.ask("open session"))

    def end_session(self, session: str, grants: list[Grant]) -> None:
        """``grants``: what it holds, which is let go of with it."""
        for grant in grants:
            self.witness.let_go(grant.name, grant.token)
        self.ask("end session", session=session)

    def pause(self, why: NotDone) -> None:
        """As long as the service said, and somewhat longer, each user differently."""
        wait_s = why.retry_after_ms / 1000 if why.refused else REST_AFTER_FAILURE_S
        if why.outcome is not Outcome.BUSY:
            time.sleep(wait_s * (1 + random.random() * JITTER))

    def _of(self, verb: str, grant: Grant) -> Any:
        return self.ask(verb, name=grant.name, token=grant.token, lock_id=grant.lock_id)
