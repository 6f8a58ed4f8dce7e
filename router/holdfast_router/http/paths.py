"""What is served under which path, which may have one segment of the caller's: ``/v1/locks/{name}/acquire``.

Paths are looked up as they were sent: a name is one segment of them, whatever is in the name.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from .request import Request

Handler = Callable[[Request], Awaitable[ASGIApp]]
_Methods = dict[str, Handler]

_AT: Final = 3
"""Where the caller's segment stands, split at the slashes."""


class Paths:
    def __init__(self) -> None:
        self._fixed: dict[str, _Methods] = {}
        self._open: dict[str, tuple[str, _Methods]] = {}
        """What the caller's segment is called, by the path with nothing in its place."""

    def add(self, method: str, path: str, handler: Handler) -> None:
        segments = path.split("/")
        if len(segments) > _AT and segments[_AT].startswith("{"):
            param, segments[_AT] = segments[_AT].strip("{}"), ""
            _, methods = self._open.setdefault("/".join(segments), (param, {}))
        else:
            methods = self._fixed.setdefault(path, {})
        assert not any("{" in each for each in segments), f"{path}: the caller's segment is the third"
        methods[method] = handler
        if method == "GET":
            methods["HEAD"] = handler

    def find(self, method: str, path: str) -> tuple[Handler, dict[str, str]]:
        """The handler, and the caller's segment by what it is called. Raises :class:`HTTPException`."""
        params: dict[str, str] = {}
        methods = self._fixed.get(path)
        if methods is None:
            segments = path.split("/")
            given = segments[_AT] if len(segments) > _AT else ""
            if given:
                segments[_AT] = ""
            found = self._open.get("/".join(segments))
            if found is None or not given:
                raise HTTPException(404)
            params[found[0]] = given
            methods = found[1]
        handler = methods.get(method)
        if handler is None:
            raise HTTPException(405, headers={"allow": ", ".join(sorted(methods))})
        return handler, params
