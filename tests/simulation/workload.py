"""Applications: workers that take locks through the public SDK, each step in words of ``plan.Step``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import holdfast
from holdfast.errors import (
    AlreadyHeld,
    CapacityMismatch,
    LockLost,
    LockTimeout,
    NotHeld,
    OutcomeUnknown,
    Overloaded,
    QuotaExceeded,
    SessionLost,
    Unavailable,
)
from tests.simulation.plan import Step
from tests.simulation.processes import ClientMachine, forever_connect

if TYPE_CHECKING:
    from tests.simulation.loop import Process
    from tests.simulation.watch import Ask, Watch

POOL_CAPACITY = 3
LEFT_BEHIND = {"abandon", "delayed", "overstay"}
"""Steps that let others wait for a lease to run out."""
TROUBLE = (
    AlreadyHeld, LockLost, LockTimeout, NotHeld, OutcomeUnknown, Overloaded, QuotaExceeded, SessionLost, Unavailable,
)  # fmt: skip
"""What may happen to an application that does nothing wrong; anything else ends the run."""


class Application:
    """One client's workers over all of its starts: who dies goes on, after a restart, with the next step."""

    def __init__(self, machine: ClientMachine, steps: tuple[tuple[Step, ...], ...], watch: Watch) -> None:
        self.machine = machine
        self.watch = watch
        self.hurry = False
        """Faults are over: no more thinking."""
        self._steps = steps
        self._next = [0] * len(steps)
        self._over = [False] * len(steps)

    @property
    def over(self) -> bool:
        return all(self._over)

    def where(self) -> str:
        at = ", ".join(
            f"{steps[number - 1].what} {steps[number - 1].name}"
            for steps, number, over in zip(self._steps, self._next, self._over, strict=True)
            if not over and number
        )
        return f"{self.machine.host} in {at}"

    def start(self) -> None:
        process = self.machine.boot()
        self.watch.client_started(process)
        process.spawn(self._main(process), "main")

    def make_up(self, steps: tuple[Step, ...]) -> None:
        """All is done, and was too little: the first worker does these, too."""
        self._steps = (self._steps[0] + steps, *self._steps[1:])
        self._over[0] = False
        process = self.machine.process
        assert process is not None, "no fault is left that could have stopped it"
        process.spawn(self._main(process), "main")

    async def _main(self, process: Process) -> None:
        client = await forever_connect(self.machine, process)
        session = client.session(ttl=2.0)
        async with asyncio.TaskGroup() as group:
            for number in range(len(self._steps)):
                group.create_task(self._work(client, session, process, number))

    async def _work(self, client: holdfast.Client, session: holdfast.Session, process: Process, number: int) -> None:
        steps = self._steps[number]
        worker = Worker(self, client, session, process, f"{self.machine.host}.{number}")
        while self._next[number] < len(steps):
            step = steps[self._next[number]]
            self._next[number] += 1
            if not self.hurry:
                await asyncio.sleep(step.think)
            elif step.what in LEFT_BEHIND:
                continue
            try:
                await worker.do(step, self._next[number])
            except TROUBLE as error:
                self.watch.world.count(f"outcome: {type(error).__name__}")
        self._over[number] = True


class Worker:
    def __init__(
        self, application: Application, client: holdfast.Client, session: holdfast.Session, process: Process, who: str
    ) -> None:
        self._application = application
        self._watch = application.watch
        self._client = client
        self._session = session
        self._process = process
        self._who = who
        self._what = ""

    async def do(self, step: Step, number: int) -> None:
        self._what = f"{self._who}.{number}.{self._process.name}"
        self._watch.world.note(f"{self._what} {step.what} {step.name}")
        await getattr(self, step.what)(step)

    # Parts.

    def _lock(self, step: Step, **more: object) -> holdfast.Lock:
        arguments: dict[str, object] = {"ttl": step.ttl, "wait": step.wait, "metadata": self._what, **more}
        return self._client.lock(step.name, **arguments)  # type: ignore[arg-type]

    async def _acquire(self, lock: holdfast.Lock, mode: str = "exclusive", permits: int = 1) -> Ask:
        ask = self._watch.asks(self._process, lock, mode, permits, self._what)
        try:
            await lock.acquire()
        except (LockTimeout, Unavailable):
            ask.taken_back()
            raise
        except (QuotaExceeded, AlreadyHeld, CapacityMismatch):
            ask.rejected()
            raise
        except SessionLost:
            ask.gone()
            raise
        except LockLost:
            ask.gone()
            raise
        ask.granted()
        return ask

    async def _stay(self, step: Step) -> None:
        await asyncio.sleep(0 if self._application.hurry else step.hold)

    async def _release(self, lock: holdfast.Lock) -> None:
        release = self._watch.releases(lock)
        try:
            await lock.release()
        except LockLost:
            self._watch.world.count("state: lost before its release")
            raise
        except (OutcomeUnknown, Unavailable):
            self._watch.world.count("state: release without an answer")
            raise
        release()

    async def _hold(self, step: Step, lock: holdfast.Lock, mode: str = "exclusive", permits: int = 1) -> None:
        await self._acquire(lock, mode, permits)
        await self._stay(step)
        if step.number == 0 and lock.held:
            await self._check(lock)
        await self._release(lock)

    async def _check(self, lock: holdfast.Lock) -> None:
        token = lock.token
        self._watch.call()
        still = await self._client.check(lock.name, token)
        if lock.held and not still:
            self._watch.unless_excused(
                lock.name, token, "an acknowledged grant is kept", f"{lock!r} is believed, not held"
            )

    # Steps.

    async def hold(self, step: Step) -> None:
        await self._hold(step, self._lock(step))

    async def hold_shared(self, step: Step) -> None:
        await self._hold(step, self._lock(step, shared=True), "shared")

    async def permits(self, step: Step) -> None:
        permits = 1 + step.number % POOL_CAPACITY
        semaphore = self._client.semaphore(
            step.name, POOL_CAPACITY, permits, ttl=step.ttl, wait=step.wait, metadata=self._what
        )
        await self._hold(step, semaphore, "permits", permits)

    async def attempt(self, step: Step) -> None:
        await self._hold(step, self._lock(step, wait=0))

    async def block(self, step: Step) -> None:
        """``async with``, as most applications use it."""
        lock = self._lock(step)
        ask = self._watch.asks(self._process, lock, "exclusive", 1, self._what)
        try:
            async with lock:
                ask.granted()
                await self._stay(step)
        except (LockTimeout, Unavailable):
            ask.taken_back()
            raise
        except LockLost:
            self._watch.world.count("state: body cancelled by a loss")
            ask.gone()
            raise

    async def renew(self, step: Step) -> None:
        """A lease that the application renews itself, now and then."""
        lock = self._lock(step, renew=False)
        await self._acquire(lock)
        for _ in range(step.number):
            await asyncio.sleep(step.ttl * 0.3)
            self._watch.call()
            await lock.renew()
        await self._release(lock)

    async def overstay(self, step: Step) -> None:
        """A lease that is not renewed, and a holder who notices late."""
        lock = self._lock(step, renew=False)
        await self._acquire(lock)
        await asyncio.sleep(step.ttl * 1.2)
        await self._release(lock)

    async def abandon(self, step: Step) -> None:
        """Never released: it runs out."""
        await self._acquire(self._lock(step, renew=False))

    async def cancel(self, step: Step) -> None:
        """Given up while it is asked or awaited; nothing may be left behind."""
        lock = self._lock(step, wait=None)
        ask = self._watch.asks(self._process, lock, "exclusive", 1, self._what)
        task = asyncio.ensure_future(lock.acquire())
        await asyncio.sleep(step.hold)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            self._watch.world.count("state: acquire cancelled")
            ask.taken_back()
            return
        except Unavailable:
            ask.taken_back()
            raise
        except LockLost:
            ask.gone()
            raise
        ask.granted()
        await self._release(lock)

    async def session(self, step: Step) -> None:
        """Several locks under one lease."""
        names = sorted({step.name, f"name-{step.number}", f"name-{(step.number + 1) % 3}"})
        taken: list[holdfast.Lock] = []
        async with self._client.session(ttl=step.ttl) as session:
            for name in names:
                lock = session.lock(name, wait=step.wait, metadata=self._what)
                await self._acquire(lock)
                taken.append(lock)
            await self._stay(step)
            if step.flag:
                await self._release(taken[0])
        self._watch.world.count("state: session ended by its owner")

    async def reentrant(self, step: Step) -> None:
        session = self._session
        outer = session.lock(step.name, wait=step.wait, reentrant=True, metadata=self._what)
        inner = session.lock(step.name, wait=step.wait, reentrant=True, metadata=self._what)
        try:
            await self._acquire(outer, "reentrant")
            try:
                await self._acquire(inner, "reentrant")
                self._watch.world.count("state: held twice by its session")
                await self._release(inner)
            finally:
                if outer.held:
                    await self._release(outer)
        except SessionLost:
            if self._session is session:
                self._session = self._client.session(ttl=2.0)
            raise

    async def steal(self, step: Step) -> None:
        await self._steal(step, now=False)

    async def steal_now(self, step: Step) -> None:
        await self._steal(step, now=True)

    async def _steal(self, step: Step, *, now: bool) -> None:
        watch = self._watch
        excuse = watch.excuse(step.name) if now else None
        watch.call()
        floor = watch.top(step.name)
        lock = await self._client.steal(
            step.name, ttl=step.ttl, wait=step.wait or 2.0, metadata=self._what, reason="drill", now=now
        )
        ask = watch.asks(self._process, lock, "exclusive", 1, self._what, floor=floor)
        if lock.held:
            ask.granted()
            watch.world.count("state: stolen now" if now else "state: stolen")
            if excuse is not None:
                excuse(lock.token)
        await self._stay(step)
        await self._release(lock)

    async def force(self, step: Step) -> None:
        self._watch.call()
        await self._client.force_release(step.name, reason="drill")
        self._watch.world.count("state: released by force")

    async def end_session(self, step: Step) -> None:
        """A session that somebody else ends."""
        session = self._client.session(ttl=step.ttl)
        lock = session.lock(step.name, wait=step.wait, metadata=self._what)
        await self._acquire(lock)
        self._watch.call()
        try:
            await self._client.end_session(session.id, reason="drill")
        except (OutcomeUnknown, Unavailable):
            # Left open it would hold its locks for as long as this process lives.
            await session.end()
            raise
        self._watch.world.count("state: session ended by another")
        if lock.held and step.flag:
            await self._release(lock)

    async def delayed(self, step: Step) -> None:
        """A name that stays closed for a while after its lease ran out."""
        lock = self._lock(step, renew=False, lock_delay=0.2)
        await self._acquire(lock)

    async def release_elsewhere(self, step: Step) -> None:
        """By the LockID, as another process would."""
        lock = self._lock(step)
        ask = await self._acquire(lock)
        number = lock.id
        release = self._watch.releases(lock)
        ask.given_up = True
        self._watch.call()
        await self._client.release(number)
        release()

    async def look(self, step: Step) -> None:
        info = await self._get(step, cache=False)
        self._watch.world.count("state: seen held" if info.holders else "state: seen free")
        if step.number == 0:
            self._watch.call()
            async for _ in self._client.list("name-", page=2):
                pass

    async def absent(self, step: Step) -> None:
        for _ in range(3):
            info = await self._get(step, cache=True)
            if not info.holders:
                self._watch.world.count("state: known absent")
            await asyncio.sleep(0 if self._application.hurry else 0.05)

    async def _get(self, step: Step, *, cache: bool) -> holdfast.LockInfo:
        """What is held from before the call until after its answer is seen, also by who remembers what is absent."""
        self._watch.call()
        before = self._watch.surely_held(step.name)
        gone = self._watch.released.copy()
        info = await self._client.get(step.name, cache=cache)
        for holder in info.holders:
            if (step.name, holder.token) in gone:
                text = f"{step.name} was seen held with token {holder.token}, which had been released"
                self._watch.violate("what is seen is true", text)
        if before is not None and before.believed:
            token = before.lock.token
            if all(holder.token != token for holder in info.holders):
                text = f"{step.name} is held by {before.who} with token {token}, and was seen with {info.holders}"
                self._watch.unless_excused(step.name, token, "what is seen is true", text)
        return info
