"""``holdfast lock``: run a command while holding a lock."""

from __future__ import annotations

import asyncio
import getpass
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer

import holdfast
from holdfast.cluster import Guardian
from holdfast.errors import HoldfastError, LockLost, LockTimeout

from . import credentials
from .durations import seconds
from .exits import Exit, Stop
from .foreground import Foreground, handle
from .lease_watch import LeaseWatch

T = TypeVar("T")
RELEASE_TIMEOUT_S = 1.0


def lock(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    command: Annotated[list[str], typer.Argument(metavar="-- CMD ...")],
    ttl: Annotated[str, typer.Option(help="How long the lock outlives a holder that died.")] = "10s",
    wait: Annotated[str, typer.Option(help="How long to wait for the lock; 0 tries once.")] = "30s",
    shared: Annotated[bool, typer.Option("--shared", help="Hold it together with other shared holders.")] = False,
) -> int:
    """Run CMD while holding the lock NAME.

    CMD finds HOLDFAST_LOCK_NAME, HOLDFAST_LOCK_TOKEN and HOLDFAST_LOCK_ID in its environment. If the lock is lost, or
    can no longer be renewed, CMD and all it started are stopped (TERM, then KILL) before the lease can end.

    Exit code: CMD's; 75 when the lock was not had in time; 70 when it was lost and CMD stopped; 69 when the service
    cannot be reached.
    """
    ttl_s, wait_s = seconds(ttl), seconds(wait)
    return asyncio.run(
        hold(
            lambda client, metadata: client.lock(
                name, ttl=ttl_s, wait=wait_s, shared=shared, metadata=metadata
            ).acquire(),
            command,
            ttl_s,
        )
    )


async def hold(
    acquire: Callable[[holdfast.Client, str], Awaitable[holdfast.Lock]], command: list[str], ttl_s: float
) -> int:
    """Run a command under the lock that ``acquire(client, metadata)`` gets; the command's exit code.

    Raises :class:`Stop` when the lock was not had in time (NOT_HAD), or was lost and the command stopped (LOST).
    """
    found = credentials.find()
    async with holdfast.connect(found.url, found.api_key) as client:
        told: list[int] = []
        try:
            held = await _unless_signalled(acquire(client, _whoami()), told)
        except LockTimeout as error:
            raise Stop(Exit.NOT_HAD, str(error)) from None
        try:
            if told:
                raise _stopped(told)
            return await _run(held, command, ttl_s)
        except LockLost as error:
            raise Stop(Exit.LOST, str(error)) from None
        finally:
            await _release(held)


async def _run(held: holdfast.Lock, command: list[str], ttl_s: float) -> int:
    environment = {
        "HOLDFAST_LOCK_NAME": held.name,
        "HOLDFAST_LOCK_TOKEN": str(held.token),
        "HOLDFAST_LOCK_ID": held.id,
    }
    guardian = Guardian()
    lost = asyncio.ensure_future(held.lost)
    try:
        watch = LeaseWatch(ttl_s, held.remaining, lost, guardian)
        foreground = Foreground(command, environment, guardian, may_resume=lambda: held.remaining() > 0)
        code, stopped = await watch.run(foreground)
        if stopped:
            why = lost.result().name.lower() if lost.done() else "it could not be renewed in time"
            raise Stop(Exit.LOST, f"the lock {held.name!r} was lost while the command ran: {why}")
        return code
    finally:
        lost.cancel()
        guardian.close()


async def _release(held: holdfast.Lock) -> None:
    """The command has ended: a lock that cannot be released now ends with its lease, and a lost one passes on."""
    try:
        await asyncio.wait_for(held.release(), RELEASE_TIMEOUT_S)
    except (HoldfastError, TimeoutError):
        pass


async def _unless_signalled(waiting: Awaitable[T], told: list[int]) -> T:
    """Give up, and with it the place in the queue, when told to stop; ``told`` gets the signals.

    They are handled until the command's own handling takes their place in the same turn of the loop: at no moment does
    a signal end this process behind the command's back.
    """
    task = asyncio.ensure_future(waiting)

    def stop(number: int) -> None:
        told.append(number)
        task.cancel()

    handle(asyncio.get_running_loop(), (signal.SIGTERM, signal.SIGINT, signal.SIGHUP), stop)
    try:
        return await task
    except asyncio.CancelledError:
        if told:
            raise _stopped(told) from None
        raise


def _stopped(told: list[int]) -> Stop:
    return Stop(128 + told[0], f"stopped by {signal.Signals(told[0]).name} while waiting")


def _whoami() -> str:
    """What inspectors are shown. Not the command line: it may hold secrets."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()} pid {os.getpid()}"
