"""Pages of a list that goes through all groups."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import msgspec

from holdfast.core.client import ClientCore
from holdfast.core.refusals import refusal
from holdfast.wire.frames import Kind, Options, Status

from .leases import ask
from .opaque import Cursor


class Page(Protocol):
    cursor: str


P = TypeVar("P", bound=Page)
V = TypeVar("V")


async def gather_page(
    core: ClientCore, kind: Kind, start: Cursor, limit: int, shape: type[P], rows_of: Callable[[P], list[V]]
) -> tuple[list[tuple[int, V]], Cursor | None]:
    """Up to ``limit`` rows from ``start`` on, each with its group; and where the next page begins, if there is one.

    One read of each group at most: a page is charged as one, and a read may have to look at many rows to show a few.
    """
    found: list[tuple[int, V]] = []
    groups = [group for group in core.all_groups() if group.number >= start.group]
    for at, group in enumerate(groups):
        inner = start.inner if group.number == start.group else ""
        options = Options(cursor=inner, limit=limit - len(found))
        answer = await ask(core, kind, start.prefix, 0, options, group=group)
        if answer.status != Status.OK:
            raise refusal(answer.status, answer.detail, start.prefix, None)
        page = msgspec.convert(answer.detail, shape)
        found += [(group.number, row) for row in rows_of(page)]
        if page.cursor:
            return found, Cursor(start.what, start.prefix, group.number, page.cursor)
        if len(found) >= limit:
            later = groups[at + 1 :]
            return found, Cursor(start.what, start.prefix, later[0].number, "") if later else None
    return found, None
