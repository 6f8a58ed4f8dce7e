"""``holdfast get``, ``list``, ``check``, ``steal`` and ``break``: locks of others, seen and taken."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Table

import holdfast
from holdfast.errors import NotHeld

from . import credentials
from .durations import seconds
from .exits import Exit, Stop
from .lock import hold

T = TypeVar("T")
COLUMNS = ("name", "token", "mode", "held for", "remaining", "waiters", "owner")

Json = Annotated[bool, typer.Option("--json", help="Print everything, for programs.")]
Name = Annotated[str, typer.Argument(metavar="NAME")]
Reason = Annotated[str, typer.Option(help="Why; the holder is told.")]
Now = Annotated[bool, typer.Option("--now", help="Do not wait for the holder to stop; only tokens protect then.")]


def get(name: Name, as_json: Json = False) -> int:
    """Show who holds NAME and how many wait. Exit code 0 whether it is held or not."""
    _show([asyncio.run(_ask(lambda client: client.get(name)))], as_json=as_json)
    return Exit.OK


def list_(
    prefix: Annotated[str, typer.Argument(metavar="[PREFIX]", help="Names that begin with it.")] = "",
    as_json: Json = False,
) -> int:
    """Show every lock in use whose name begins with PREFIX."""

    async def collect(client: holdfast.Client) -> list[holdfast.LockInfo]:
        return [lock async for lock in client.list(prefix)]

    _show(sorted(asyncio.run(_ask(collect)), key=lambda lock: lock.name), as_json=as_json)
    return Exit.OK


def check(
    lock: Annotated[str, typer.Argument(metavar="NAME TOKEN | LOCK_ID")],
    token: Annotated[int | None, typer.Argument(metavar="", show_default=False)] = None,
) -> int:
    """Ask whether a token, or a LockID, is still the holder's. Exit code 0 when it is, 1 when not."""
    return Exit.OK if asyncio.run(_ask(lambda client: client.check(lock, token))) else Exit.NO


def steal(
    name: Name,
    command: Annotated[list[str], typer.Argument(metavar="-- CMD ...")],
    ttl: Annotated[str, typer.Option(help="How long the lock outlives a holder that died.")] = "10s",
    wait: Annotated[str, typer.Option(help="How long to wait until the holder has stopped.")] = "30s",
    reason: Reason = "",
    now: Now = False,
) -> int:
    """Take the lock NAME from its holder, past everybody who waits, and run CMD under it, as 'holdfast lock' does."""
    ttl_s, wait_s = seconds(ttl), seconds(wait)
    return asyncio.run(
        hold(
            lambda client, metadata: client.steal(
                name, reason=reason, now=now, ttl=ttl_s, wait=wait_s, metadata=metadata
            ),
            command,
            ttl_s,
        )
    )


def break_(
    name: Name,
    token: Annotated[int, typer.Option(help="Only the holder with this token.")] = 0,
    reason: Reason = "",
    now: Now = False,
) -> int:
    """Take the lock NAME from its holder; whoever waits gets it. Exit code 1 when nobody held it."""
    try:
        asyncio.run(_ask(lambda client: client.force_release(name, token=token, reason=reason, now=now)))
    except NotHeld as error:
        raise Stop(Exit.NO, str(error)) from None
    return Exit.OK


async def _ask(question: Callable[[holdfast.Client], Awaitable[T]]) -> T:
    found = credentials.find()
    async with holdfast.connect(found.url, found.api_key) as client:
        return await question(client)


def _show(locks: list[holdfast.LockInfo], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([_plain(lock) for lock in locks], indent=1))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in COLUMNS:
        table.add_column(column, no_wrap=True)
    for lock in locks:
        for holder in lock.holders:
            table.add_row(lock.name, *_row(holder, lock.capacity), str(lock.waiters), _text(holder.metadata))
        if not lock.holders:
            state = f"closed for {lock.closed_for:.1f} s" if lock.closed_for else "free"
            table.add_row(lock.name, "-", state, "", "", str(lock.waiters), "")
    # Piped output is for programs that read lines: never folded to the width of a terminal that is not there.
    console = Console(markup=False) if sys.stdout.isatty() else Console(width=1000, markup=False)
    console.print(table, highlight=False)


def _row(holder: holdfast.HolderInfo, capacity: int) -> tuple[str, ...]:
    how = "shared" if holder.shared else "exclusive"
    if capacity:
        how = f"{holder.permits} of {capacity}"
    if holder.leaving is not None:
        how += f", {holder.leaving.name.lower()}"
    return str(holder.token), how, f"{holder.held_for:.1f} s", f"{holder.remaining:.1f} s"


def _plain(lock: holdfast.LockInfo) -> dict[str, object]:
    plain = dataclasses.asdict(lock)
    for holder in plain["holders"]:
        holder["metadata"] = _text(holder["metadata"])
        holder["leaving"] = holder["leaving"] and holder["leaving"].name.lower()
    return plain


def _text(metadata: bytes) -> str:
    return "".join(c if c.isprintable() else "\ufffd" for c in metadata.decode(errors="replace"))
