"""A request as ASGI says it, of which no more is made than is looked at."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import QueryParams
from starlette.types import Receive, Scope

from .line import Line

LINE: Final = "line"
"""In the scope's ``state``: the :class:`Line` of its connection."""
WHOLE: Final = "whole"
"""In the scope's ``state`` once the request has come to its end."""


class Request:
    __slots__ = ("_fields", "params", "receive", "scope")

    def __init__(self, scope: Scope, receive: Receive, params: dict[str, str]) -> None:
        """``params``: of the path, percent-encoded as they came."""
        self.scope = scope
        self.receive = receive
        self.params = params
        # Of a field that comes twice the first one counts.
        self._fields: dict[bytes, bytes] = dict(scope["headers"][::-1])

    def has(self, name: bytes) -> bool:
        """Whether the head has this field; ``name`` in lower case."""
        return name in self._fields

    def field(self, name: bytes, default: str = "") -> str:
        """What it says."""
        value = self._fields.get(name)
        return default if value is None else value.decode("latin-1")

    @property
    def line(self) -> Line:
        found: Line = self.scope["state"][LINE]
        return found

    @property
    def has_come(self) -> bool:
        """Whether it has come to its end, body and all."""
        return WHOLE in self.scope["state"]

    @property
    def address(self) -> str:
        client = self.scope["client"]
        return client[0] if client is not None else ""

    @property
    def query(self) -> QueryParams:
        return QueryParams(self.scope["query_string"])
