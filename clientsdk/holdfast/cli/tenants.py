"""``holdfast tenant`` and ``holdfast key``: who may use the cluster, and how much of it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from holdfast.wire.administration import KeyInfo, TenantInfo
from holdfast.wire.tenants import DEFAULT_PLAN, PLANS, KeyRole, Quotas

from .administering import Json, Named, ask, collect, day, print_json, print_rows
from .exits import Exit

tenant = typer.Typer(no_args_is_help=True, help="Tenants: create, list, show, set, suspend, resume, delete.")
key = typer.Typer(no_args_is_help=True, help="API keys: create, list, rotate, revoke.")

Display = Annotated[str | None, typer.Option(help="Name for people.")]
PlanName = Annotated[str | None, typer.Option(help=f"One of {', '.join(PLANS)}: weight and quotas.")]
Weight = Annotated[int | None, typer.Option(help="Share of a busy group beside other tenants, 1 to 1,000.")]
QuotaValues = Annotated[
    list[str] | None,
    typer.Option("--quota", metavar="NAME=N", help=f"One of {', '.join(Quotas.__struct_fields__)}; repeatable."),
]
KeyId = Annotated[str, typer.Argument(metavar="KEY_ID", help="The middle part of hf_ID_SECRET.")]


@tenant.command(name="create")
def create_tenant(
    name: Named,
    display: Display = None,
    plan: PlanName = None,
    weight: Weight = None,
    quota: QuotaValues = None,
    as_json: Json = False,
) -> int:
    """Make a tenant and its first API key, of role admin. The key is shown only here."""
    numbers = _quotas(quota)
    made = ask(
        lambda admin: admin.create_tenant(
            name, display=display or "", plan=plan or DEFAULT_PLAN, weight=weight, **numbers
        )
    )
    if as_json:
        print_json(made)
    else:
        _say_key(made.api_key, f"tenant {made.tenant.id}")
    return Exit.OK


@tenant.command(name="list")
def list_tenants(as_json: Json = False) -> int:
    """Show every tenant; with a tenant's own key, that one."""
    found = collect(lambda admin: admin.tenants())
    if as_json:
        print_json(found)
    else:
        rows = [(each.id, each.state, each.plan, each.weight, len(each.keys), each.display) for each in found]
        print_rows(("tenant", "state", "plan", "weight", "keys", "name"), rows)
    return Exit.OK


@tenant.command(name="show")
def show_tenant(name: Annotated[str, typer.Argument(metavar="[TENANT]")] = "", as_json: Json = False) -> int:
    """Show a tenant, its quotas and its keys."""
    _print(ask(lambda admin: admin.tenant(name)), as_json=as_json)
    return Exit.OK


@tenant.command(name="set")
def set_tenant(
    name: Named,
    display: Display = None,
    plan: PlanName = None,
    weight: Weight = None,
    quota: QuotaValues = None,
    as_json: Json = False,
) -> int:
    """Change a tenant; in force on every router within a second. A lowered quota takes nothing away."""
    numbers = _quotas(quota)
    if display is None and plan is None and weight is None and not numbers:
        raise typer.BadParameter("say what to change: --display, --plan, --weight or --quota")
    changed = ask(lambda admin: admin.set_tenant(name, display=display, plan=plan, weight=weight, **numbers))
    _print(changed, as_json=as_json)
    return Exit.OK


@tenant.command()
def suspend(name: Named) -> int:
    """Admit nothing of a tenant any more and close its connections; what it holds runs out by itself."""
    ask(lambda admin: admin.suspend_tenant(name))
    return Exit.OK


@tenant.command()
def resume(name: Named) -> int:
    """Undo suspend."""
    ask(lambda admin: admin.resume_tenant(name))
    return Exit.OK


@tenant.command()
def delete(name: Named) -> int:
    """Remove a suspended tenant with its keys."""
    ask(lambda admin: admin.delete_tenant(name))
    return Exit.OK


@key.command(name="create")
def create_key(
    name: Annotated[str, typer.Argument(metavar="NAME", help="For people: what it is used for.")],
    owner: Annotated[
        str, typer.Option("--tenant", metavar="ID", help="Whose; without it, that of the key in use.")
    ] = "",
    role: Annotated[KeyRole, typer.Option(help="What it may do; each role may do what those before it may.")] = (
        KeyRole.LOCKS
    ),
    prefix: Annotated[str, typer.Option(help="Only for lock names that begin with it.")] = "",
    as_json: Json = False,
) -> int:
    """Make an API key. It is shown only here; the cluster keeps a salted hash."""
    made = ask(lambda admin: admin.create_key(owner, name=name, role=role, prefix=prefix))
    if as_json:
        print_json(made)
    else:
        _say_key(made.api_key, f"key {made.key.id}")
    return Exit.OK


@key.command(name="list")
def list_keys(
    owner: Annotated[str, typer.Argument(metavar="[TENANT]")] = "",
    as_json: Json = False,
) -> int:
    """Show a tenant's keys, without their secrets."""
    keys = ask(lambda admin: admin.tenant(owner)).keys
    if as_json:
        print_json(keys)
    else:
        _print_keys(keys)
    return Exit.OK


@key.command()
def rotate(key_id: KeyId, as_json: Json = False) -> int:
    """Put another key in the place of one, which ends at once. To let both be used for a while: create, then revoke."""
    made = ask(lambda admin: admin.rotate_key(key_id))
    if as_json:
        print_json(made)
    else:
        _say_key(made.api_key, f"key {made.key.id}")
    return Exit.OK


@key.command()
def revoke(key_id: KeyId) -> int:
    """End a key: within a second it is accepted nowhere, and connections that use it are closed."""
    ask(lambda admin: admin.revoke_key(key_id))
    return Exit.OK


def _quotas(given: list[str] | None) -> dict[str, int]:
    found: dict[str, int] = {}
    for text in given or []:
        name, _, number = text.partition("=")
        if name not in Quotas.__struct_fields__ or not number.isdecimal():
            raise typer.BadParameter(f"--quota takes NAME=N, a NAME of {', '.join(Quotas.__struct_fields__)}: {text!r}")
        found[name] = int(number)
    return found


def _say_key(text: str, what: str) -> None:
    """The key alone on standard output, so that it can be captured."""
    print(f"holdfast: made {what}; its secret is kept nowhere else", file=sys.stderr)
    print(text)


def _print(shown: TenantInfo, *, as_json: bool) -> None:
    if as_json:
        print_json(shown)
        return
    head = (("tenant", shown.id), ("name", shown.display), ("state", shown.state), ("plan", shown.plan))
    rest = (("weight", shown.weight), ("created", day(shown.created_ms)), ("changed", day(shown.changed_ms)))
    print_rows(("", ""), (*head, *rest, *shown.quotas.items()))
    _print_keys(shown.keys)


def _print_keys(keys: list[KeyInfo]) -> None:
    rows = [(each.id, each.name, each.role, each.prefix, day(each.created_ms)) for each in keys]
    print_rows(("key", "name", "role", "prefix", "created"), rows)
