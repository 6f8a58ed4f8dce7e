"""Which handler a path has, and which segment of it is its caller's."""

from __future__ import annotations

import pytest
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp

from holdfast_router.http.paths import Paths
from holdfast_router.http.request import Request


async def one(request: Request) -> ASGIApp:
    return Response()


async def other(request: Request) -> ASGIApp:
    return Response()


@pytest.fixture
def paths() -> Paths:
    paths = Paths()
    paths.add("GET", "/v1/locks", one)
    paths.add("GET", "/v1/locks/{name}", one)
    paths.add("POST", "/v1/locks/{name}/acquire", other)
    paths.add("DELETE", "/v1/sessions/{session}", other)
    paths.add("GET", "/docs", one)
    return paths


@pytest.mark.parametrize(
    ("method", "path", "found"),
    [
        ("GET", "/v1/locks", (one, {})),
        ("HEAD", "/v1/locks", (one, {})),
        ("GET", "/docs", (one, {})),
        ("GET", "/v1/locks/a", (one, {"name": "a"})),
        ("GET", "/v1/locks/acquire", (one, {"name": "acquire"})),
        ("GET", "/v1/locks/%7B%7D", (one, {"name": "%7B%7D"})),
        ("GET", "/v1/locks/{}", (one, {"name": "{}"})),
        ("POST", "/v1/locks/orders%2F7/acquire", (other, {"name": "orders%2F7"})),
        ("DELETE", "/v1/sessions/a", (other, {"session": "a"})),
    ],
)
def test_a_path_has_its_handler_and_its_segment(
    paths: Paths, method: str, path: str, found: tuple[object, dict[str, str]]
) -> None:
    assert paths.find(method, path) == found


@pytest.mark.parametrize(
    "path",
    [
        *("", "/", "/v1", "/v1/locks/", "/v1/locks//acquire", "/v1/locks/a/", "/v1/locks/a/acquire/", "/v1/locks/a/b"),
        *("/a", "/v2/locks/a", "v1/locks", "//v1/locks", "/docs/", "/v1/locks/a/acquire/b", "/v1//locks", "///"),
    ],
)
def test_all_else_is_nowhere(paths: Paths, path: str) -> None:
    with pytest.raises(HTTPException) as raised:
        paths.find("GET", path)
    assert raised.value.status_code == 404


def test_another_method_is_told_which_there_are(paths: Paths) -> None:
    with pytest.raises(HTTPException) as raised:
        paths.find("POST", "/v1/locks/a")
    assert (raised.value.status_code, raised.value.headers) == (405, {"allow": "GET, HEAD"})
