"""The OpenAPI 3.1 document, made from the table that serves and the types that decode."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, get_args

import msgspec

from holdfast.errors import HoldfastError
from holdfast.wire.administration import AdminRequest, AdminResult

from ..operations.problems import problem_of_kind
from ..operations.requests import LockState
from . import event_stream
from .connection import HEAD_TOO_LARGE
from .endpoints import ALWAYS, ENDPOINTS, LOCK_STATE, Endpoint
from .problem_details import MEDIA_TYPE, ProblemDetails

_REFERENCE = "#/components/schemas/{name}"
_DESCRIPTION = """\
Locks held by a quorum, on disk, under a lease, with fencing tokens. A name in a path is percent-encoded as a whole
(`orders%2F7`); names `.` and `..`, which many clients cannot send in a path, travel in a body. `expires_in_ms` counts
from when you sent the request. Errors are `application/problem+json`; decide by `code`.\
"""


def document(server: str = "/") -> dict[str, Any]:
    found = [kind for one in ENDPOINTS for kind in (one.body, one.query, one.result, one.asked) if kind is not None]
    kinds = [*(kind for kind in dict.fromkeys(found) if kind != AdminRequest), ProblemDetails]
    types = _Types()
    types.add(kinds)
    types.add([AdminRequest, *get_args(AdminResult)], "Admin")
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, types)
    refused = _problems(ALWAYS, types)
    paths[event_stream.PATH] = event_stream.described(types.references[LockState], LOCK_STATE, refused)
    for path, told in (("/healthz", "the process is alive"), ("/readyz", "it can serve what it is asked")):
        paths[path] = {"get": _probe(path, told, types)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Holdfast", "version": "1", "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": server}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": types.components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "An API key, `hf_…`."}},
        },
    }  # fmt: skip


def _markdown(text: str, prefix: str) -> str:
    """Docstrings are of reStructuredText, descriptions of CommonMark. Types that are named get the prefix."""
    return re.sub(r"(`+)(.+?)\1", r"`\2`", re.sub(r":class:`(\w+)`", rf"`{prefix}\1`", text))


class _Types:
    def __init__(self) -> None:
        self.references: dict[Any, dict[str, Any]] = {}
        self.components: dict[str, Any] = {}

    def add(self, kinds: list[Any], prefix: str = "") -> None:
        """``prefix``: of the names of all that these are made of, to tell them from others' of the same name."""
        template = _REFERENCE.format(name=prefix + "{name}")
        references, components = msgspec.json.schema_components(kinds, ref_template=template)
        self.references |= dict(zip(kinds, references, strict=True))
        for name, component in components.items():
            if "description" in component:
                component["description"] = _markdown(component["description"], prefix)
            self.components[prefix + name] = component

    def shape(self, kind: Any) -> dict[str, Any]:
        """The schema itself."""
        found: dict[str, Any] = self.components[self.references[kind]["$ref"].rpartition("/")[2]]
        return found


def _operation(endpoint: Endpoint, types: _Types) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": endpoint.id,
        "summary": endpoint.summary,
        "tags": [_tag_of(endpoint.id)],
        "parameters": [*_path_parameters(endpoint, types), *_query_parameters(endpoint, types)],
        "responses": _responses(endpoint, types),
    }
    if endpoint.changes:
        found["parameters"].append(_IDEMPOTENCY)
    if endpoint.id == "getLock":
        found["parameters"].append(_IF_NONE_MATCH)
        found["responses"]["304"] = {"description": "Nothing has changed but ages and remaining times"}
    if endpoint.body is not None:
        media: dict[str, Any] = {"schema": types.references[endpoint.body]}
        if endpoint.example:
            media["example"] = endpoint.example
        found["requestBody"] = {"required": _is_required(endpoint), "content": {"application/json": media}}
    return found


def _tag_of(name: str) -> str:
    if name in ("batch", "administer"):
        return name
    return "sessions" if "ession" in name else "locks"


def _is_required(endpoint: Endpoint) -> bool:
    if not isinstance(endpoint.body, type):
        return True
    return any(field.required for field in msgspec.structs.fields(endpoint.body))


_IDEMPOTENCY = {
    "name": "Idempotency-Key", "in": "header", "required": False,
    "description": "The same for every copy of one request: it is carried out once, and copies get the first answer.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}  # fmt: skip
_IF_NONE_MATCH = {
    "name": "If-None-Match", "in": "header", "required": False, "description": "`ETag` of an answer before.",
    "schema": {"type": "string", "examples": ['W/"1f2e3d"']},
}  # fmt: skip


def _path_parameters(endpoint: Endpoint, types: _Types) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)}", endpoint.path)
    if not names:
        return []
    properties = types.shape(endpoint.asked)["properties"]
    return [
        {
            "name": name, "in": "path", "required": True, "schema": {**properties[name], "minLength": 1},
            "description": "Percent-encoded as a whole.",
        }
        for name in names
    ]  # fmt: skip


def _query_parameters(endpoint: Endpoint, types: _Types) -> list[dict[str, Any]]:
    if endpoint.query is None:
        return []
    schema = types.shape(endpoint.query)
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": part}
        for name, part in schema["properties"].items()
    ]


def _responses(endpoint: Endpoint, types: _Types) -> dict[str, Any]:
    told: dict[str, Any] = {"schema": types.references[endpoint.result]}
    if endpoint.told:
        told["example"] = endpoint.told
    found: dict[str, Any] = {str(endpoint.status): {"description": "Done", "content": {"application/json": told}}}
    return found | _problems(endpoint.problems, types, with_body=endpoint.body is not None)


def _problems(kinds: Iterable[type[HoldfastError]], types: _Types, *, with_body: bool = False) -> dict[str, Any]:
    codes: dict[int, list[str]] = {}
    for kind in kinds:
        problem = problem_of_kind(kind)
        codes.setdefault(problem.http, []).append(f"`{problem.slug}`: {problem.title}")
    codes[404] = codes.get(404, ["`not-found`: There is no such path"])
    codes[431] = [f"`{HEAD_TOO_LARGE.code}`: {HEAD_TOO_LARGE.title}"]
    if with_body:
        codes[408] = ["`request-timeout`: The body came too slowly"]
        codes[415] = ["`unsupported-media-type`: A body is application/json"]
    content = {MEDIA_TYPE: {"schema": types.references[ProblemDetails]}}
    return {str(code): {"description": "; ".join(words), "content": content} for code, words in sorted(codes.items())}


def _probe(path: str, told: str, types: _Types) -> dict[str, Any]:
    answers: dict[str, Any] = {"200": {"description": f"Yes: {told}"}}
    if path == "/readyz":
        problem = {MEDIA_TYPE: {"schema": types.references[ProblemDetails]}}
        answers["503"] = {"description": "No, not now", "content": problem}
    return {
        "operationId": path[1:], "summary": f"Whether {told}", "tags": ["health"], "security": [], "responses": answers,
    }  # fmt: skip


def encoded(found: dict[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(found), indent=1)
