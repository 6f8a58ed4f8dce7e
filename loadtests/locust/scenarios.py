"""What users do. Each is mixed with one way to the service; see ``locustfile``."""

from __future__ import annotations

import itertools
import random
import time
from typing import ClassVar, Final

from .user import Customer
from .vocabulary import Grant, NotDone, Outcome
from .zipf import Zipf

OWN_NAMES: Final = 1000
"""A user comes back to its first name after so many, so that tokens are looked at and memory stays bounded."""
HOT_NAMES: Final = 8
HOT_WAIT_S: Final = 10.0
HOLD_S: Final = 0.002
ZIPF: Final = Zipf(10_000, 1.1)
SEMAPHORES: Final = 16
CAPACITY: Final = 8
PERMITS_MAX: Final = 3
SESSION_LOCKS: Final = 50
JOBS: Final = 200
JOB_TRIES: Final = 5
JOB_S: Final = 0.02
RNG: Final = random.Random()


class Uncontended(Customer):
    """Locks of one's own, one after the other."""

    def prepare(self) -> None:
        self._names = itertools.cycle(f"{self.own}/{number}" for number in range(OWN_NAMES))

    def step(self) -> None:
        self.release(self.acquire(next(self._names)))


class HotLocks(Customer):
    """Everybody wants the same few locks, and queues for them. An acquire's time has the wait in it."""

    def step(self) -> None:
        grant = self.acquire(f"load/hot/{random.randrange(HOT_NAMES)}", wait_s=HOT_WAIT_S)
        time.sleep(HOLD_S)
        self.release(grant)


class ZipfNames(Customer):
    """Ten thousand names, of which some are hot."""

    def step(self) -> None:
        grant = self.acquire(f"load/zipf/{ZIPF.draw(RNG)}", wait_s=HOT_WAIT_S)
        time.sleep(HOLD_S)
        self.release(grant)


class Semaphores(Customer):
    """One to three of eight permits."""

    def step(self) -> None:
        name, permits = f"load/semaphore/{random.randrange(SEMAPHORES)}", random.randint(1, PERMITS_MAX)
        grant = self.acquire(name, wait_s=HOT_WAIT_S, permits=permits, capacity=CAPACITY)
        time.sleep(HOLD_S)
        self.release(grant)


class Sessions(Customer):
    """Fifty locks under one session, let go of with it."""

    def step(self) -> None:
        session = self.open_session()
        grants: list[Grant] = []
        try:
            for number in range(SESSION_LOCKS):
                grants.append(self.acquire(f"{self.own}/{number}", session=session))
        finally:
            self.end_session(session, grants)


class JobScheduler(Customer):
    """Workers that look for a job nobody has, without waiting; who has one renews it, does it and looks whether it is
    still theirs before they say so."""

    def step(self) -> None:
        for _ in range(JOB_TRIES):
            try:
                grant = self.acquire(f"load/jobs/{random.randrange(JOBS)}")
            except NotDone as why:
                if why.outcome is not Outcome.BUSY:
                    raise
            else:
                self._work(grant)
                return

    def _work(self, grant: Grant) -> None:
        try:
            time.sleep(JOB_S)
            self.renew(grant)
            if not self.check(grant):
                self.accuse(f"lost: {grant.name!r} is not held under token {grant.token} right after its renewal")
        finally:
            self.release(grant)


class Quiet(Uncontended):
    """The tenant that asks for little, beside the one that does not."""

    tenant: ClassVar[int | None] = 0
    pace: ClassVar[float] = 0.1


class Flood(Uncontended):
    """The tenant that asks for all it can get and comes back at once when it is refused. It is not judged."""

    tenant: ClassVar[int | None] = 1
    label: ClassVar[str] = "flood"
    pace: ClassVar[float] = 0.0

    def pause(self, why: NotDone) -> None:
        time.sleep(0)


class Keepalive(Customer):
    """One lock each, which is renewed and not let go of."""

    def prepare(self) -> None:
        self._grant = self.acquire(f"{self.own}/kept")

    def step(self) -> None:
        self.renew(self._grant)


class Inspection(Customer):
    """Nine looks for each lock that is taken."""

    def prepare(self) -> None:
        self._kept = self.acquire(f"{self.own}/kept")

    def step(self) -> None:
        look = random.randrange(10)
        if look < 6:
            self.get(f"load/hot/{random.randrange(HOT_NAMES)}")
        elif look < 8:
            self.check(self._kept)
        elif look < 9:
            self.count(self.own)
        else:
            self.release(self.acquire(f"{self.own}/cycle"))
