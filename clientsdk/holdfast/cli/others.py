"""``holdfast locks``, ``holdfast sessions`` and ``holdfast audit``: what an administrator sees and does of others."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from holdfast.wire.administration import LockDetail

from .administering import Json, Tenant, ask, collect, day, print_json, print_rows
from .durations import moment_ms
from .exits import Exit

locks = typer.Typer(no_args_is_help=True, help="Locks of a tenant: list, show, break.")
sessions = typer.Typer(no_args_is_help=True, help="Sessions of a tenant: list, end.")

Reason = Annotated[str, typer.Option(help="Why; the holder is told, and it is in the audit log.")]


@locks.command(name="list")
def list_locks(
    prefix: Annotated[str, typer.Argument(metavar="[PREFIX]", help="Names that begin with it.")] = "",
    tenant: Tenant = "",
    as_json: Json = False,
) -> int:
    """Show every lock of a tenant that is in use."""
    found = sorted(collect(lambda admin: admin.locks(tenant, prefix)), key=lambda lock: lock.name)
    _print(found, as_json=as_json)
    return Exit.OK


@locks.command()
def show(name: Annotated[str, typer.Argument(metavar="NAME")], tenant: Tenant = "", as_json: Json = False) -> int:
    """Show one lock and its holders."""
    _print([ask(lambda admin: admin.lock(name, tenant))], as_json=as_json)
    return Exit.OK


@locks.command(name="break")
def break_(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    tenant: Tenant = "",
    token: Annotated[int, typer.Option(help="Only the holder with this token.")] = 0,
    reason: Reason = "",
    now: Annotated[bool, typer.Option("--now", help="Do not wait for the holder; only tokens protect then.")] = False,
) -> int:
    """Take a lock from its holder. It is written to the audit log first. Exit code 1 when nobody held it."""
    ask(lambda admin: admin.break_lock(name, tenant, token=token, reason=reason, now=now))
    if not now:
        typer.echo("its holder was told: it is free when he lets go, or at the latest when his lease ends", err=True)
    return Exit.OK


@sessions.command(name="list")
def list_sessions(tenant: Tenant = "", as_json: Json = False) -> int:
    """Show the sessions of a tenant, one row for each group in which a session was used."""
    found = collect(lambda admin: admin.sessions(tenant))
    if as_json:
        print_json(found)
    else:
        rows = [
            (each.session, each.group, f"{each.remaining_ms / 1000:.1f} s", each.held, each.waiting, each.metadata)
            for each in found
        ]
        print_rows(("session", "group", "remaining", "held", "waiting", "owner"), rows)
    return Exit.OK


@sessions.command()
def end(
    session: Annotated[str, typer.Argument(metavar="SESSION", help="32 hexadecimal digits.")],
    tenant: Tenant = "",
    reason: Reason = "",
) -> int:
    """End a session of any process; its locks pass on. It is written to the audit log first."""
    ask(lambda admin: admin.end_session(session, tenant, reason=reason))
    typer.echo("its owner was told: its locks are free when he lets go, or at the latest when its lease ends", err=True)
    return Exit.OK


def audit(
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 100,
    tenant: Annotated[str, typer.Option(metavar="ID", help="About it or done with its keys; also a deleted one.")] = "",
    action: Annotated[str, typer.Option(help="Such as key.revoke; key is all that is done to keys.")] = "",
    target: Annotated[str, typer.Option(help="A lock's name, a session, the id of a tenant or key.")] = "",
    key_id: Annotated[str, typer.Option(metavar="KEY_ID", help="Of the key with which it was done.")] = "",
    since: Annotated[str, typer.Option(metavar="WHEN", help="From then on: 2026-08-01T09:30:00Z, or 2h for ago.")] = "",
    until: Annotated[str, typer.Option(metavar="WHEN", help="Before then.")] = "",
    as_json: Json = False,
) -> int:
    """Show what administrators did: when, who, from where, what, before and after. With a tenant's key, what is its."""
    now_ms = int(time.time() * 1000)
    since_ms, until_ms = (moment_ms(text, now_ms) if text else 0 for text in (since, until))
    found = collect(
        lambda admin: admin.audit(
            tenant=tenant, action=action, target=target, key=key_id, since_ms=since_ms, until_ms=until_ms
        ),
        limit,
    )
    if as_json:
        print_json(found)
        return Exit.OK
    rows = [
        (
            record["seq"], day(record["when_ms"]), record["actor"]["tenant"], record["actor"]["key_name"],
            record["address"], record["action"], record["target"], _difference(record["before"], record["after"]),
        )
        for record in found
    ]  # fmt: skip
    print_rows(("seq", "when", "tenant", "key", "from", "action", "target", "change"), rows)
    return Exit.OK


def _difference(before: dict[str, str | int], after: dict[str, str | int]) -> str:
    names = [*before, *(name for name in after if name not in before)]
    return ", ".join(
        f"{name}: {before[name]} -> {after[name]}" if name in before and name in after
        else f"{name}: {after[name]}" if name in after else f"no {name}"
        for name in names
    )  # fmt: skip


def _print(found: list[LockDetail], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    rows: list[tuple[object, ...]] = []
    for lock in found:
        for holder in lock.holders:
            how = f"{holder.permits} of {lock.capacity}" if lock.capacity else holder.mode
            how += f", {holder.leaving}" if holder.leaving else ""
            times = f"{holder.held_ms / 1000:.1f} s", f"{holder.remaining_ms / 1000:.1f} s"
            rows.append((lock.name, holder.token, how, *times, lock.waiters, holder.session, holder.metadata))
        if not lock.holders:
            state = f"closed for {lock.closed_ms / 1000:.1f} s" if lock.closed_ms else "free"
            rows.append((lock.name, "-", state, "", "", lock.waiters, "", ""))
    print_rows(("name", "token", "mode", "held for", "remaining", "waiters", "session", "owner"), rows)
