"""What the commands of administrators share: whose key they use, how they ask, how they print."""

from __future__ import annotations

import asyncio
import datetime
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.table import Table

import holdfast.admin

from . import credentials

T = TypeVar("T")

Json = Annotated[bool, typer.Option("--json", help="Print everything, for programs.")]
Tenant = Annotated[str, typer.Option("--tenant", metavar="ID", help="Whose; without it, that of the key in use.")]
Named = Annotated[str, typer.Argument(metavar="TENANT")]


def ask(question: Callable[[holdfast.admin.Admin], Awaitable[T]]) -> T:
    """With the operator's key where there is one, else with the tenant's."""

    async def asked() -> T:
        found = credentials.find(rules=True)
        async with holdfast.admin.connect(found.url, found.operator_key or found.api_key) as admin:
            return await question(admin)

    return asyncio.run(asked())


def collect(question: Callable[[holdfast.admin.Admin], AsyncIterator[T]], at_most: int | None = None) -> list[T]:
    async def all_of(admin: holdfast.admin.Admin) -> list[T]:
        found: list[T] = []
        async for each in question(admin):
            if at_most is not None and len(found) >= at_most:
                break
            found.append(each)
        return found

    return ask(all_of)


def print_json(what: object) -> None:
    print(msgspec.json.format(msgspec.json.encode(what)).decode())


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*(printable(str(cell)) for cell in row))
    # Piped output is for programs that read lines: never folded to the width of a terminal that is not there.
    console = Console(markup=False) if sys.stdout.isatty() else Console(width=1000, markup=False)
    console.print(table, highlight=False)


def printable(text: str) -> str:
    """Names and metadata are whatever a client sent: no control characters reach the terminal."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def day(when_ms: int) -> str:
    """UTC; ISO 8601 to the second."""
    return datetime.datetime.fromtimestamp(when_ms / 1000, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
