"""The OpenAPI document as a page for people; it needs nothing but itself."""

from __future__ import annotations

import html
import json
from typing import Any

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}
h1,h2{line-height:1.2}h2{margin-top:3rem;border-bottom:1px solid #d0d7de}
code,pre{font:14px/1.45 ui-monospace,monospace;background:#f4f6f8;border-radius:4px}code{padding:.1em .3em}
pre{padding:.8rem;overflow-x:auto}details{border:1px solid #d0d7de;border-radius:6px;margin:.6rem 0;padding:.5rem .8rem}
summary{cursor:pointer}summary b{display:inline-block;min-width:4.5rem}table{border-collapse:collapse;width:100%}
td,th{text-align:left;vertical-align:top;padding:.25rem .6rem .25rem 0;border-top:1px solid #eaeef2}
@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}code,pre{background:#161b22}
h2,details,td,th{border-color:#30363d}a{color:#79b8ff}}
"""


def page(document: dict[str, Any]) -> str:
    info = document["info"]
    by_tag: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            by_tag.setdefault(operation["tags"][0], []).append(_operation(method.upper(), path, operation))
    sections = "".join(f"<h2>{_text(tag.title())}</h2>{''.join(parts)}" for tag, parts in by_tag.items())
    schemas = "".join(_schema(name, schema) for name, schema in document["components"]["schemas"].items())
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{_text(info["title"])} API</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
        f"<h1>{_text(info['title'])} API, version {_text(info['version'])}</h1><p>{_prose(info['description'])}</p>"
        "<p>Every request under <code>/v1</code> carries <code>Authorization: Bearer hf_…</code>. The same as data: "
        f'<a href="/openapi.json">/openapi.json</a>.</p>{sections}<h2>Types</h2>{schemas}</html>'
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parts = [f"<summary><b>{method}</b> <code>{_text(path)}</code> {_text(operation['summary'])}</summary>"]
    if "description" in operation:
        parts.append(f"<p>{_prose(operation['description'])}</p>")
    if operation.get("parameters"):
        rows = "".join(
            f"<tr><td><code>{_text(one['name'])}</code> in {one['in']}{', required' if one['required'] else ''}"
            f"<td>{_prose(one.get('description') or one['schema'].get('description', ''))}"
            for one in operation["parameters"]
        )
        parts.append(f"<table><tr><th>Parameter<th>{rows}</table>")
    if "requestBody" in operation:
        media = operation["requestBody"]["content"]["application/json"]
        parts.append(f"<p>Body: {_kind(media['schema'])}</p>{_example(media)}")
    for status, answer in operation["responses"].items():
        content = answer.get("content", {})
        parts.append(f"<p><b>{status}</b> {_prose(answer['description'])}")
        for media in content.values():
            parts.append(f" {_kind(media['schema'])}{_example(media)}")
        parts.append("</p>")
    return f"<details>{''.join(parts)}</details>"


def _schema(name: str, schema: dict[str, Any]) -> str:
    required = schema.get("required", [])
    rows = "".join(
        f"<tr><td><code>{_text(field)}</code>{' *' if field in required else ''}<td>{_kind(part)}"
        f"<td>{_prose(part.get('description', ''))}"
        for field, part in schema.get("properties", {}).items()
    )
    words = _prose(schema.get("description", ""))
    return f'<details id="{_text(name)}"><summary>{_text(name)}</summary><p>{words}</p><table>{rows}</table></details>'


def _kind(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = _text(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_kind(part) for part in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"<code>{_text(json.dumps(value))}</code>" for value in schema["enum"])
    kind = _text(schema.get("type", "any"))
    if "items" in schema:
        return f"list of {_kind(schema['items'])}"
    limits = [f"{word} {schema[key]}" for key, word in _LIMITS.items() if key in schema]
    return f"{kind}{', ' + ', '.join(limits) if limits else ''}"


_LIMITS = {"minimum": "from", "maximum": "to", "maxLength": "at most"}


def _example(media: dict[str, Any]) -> str:
    return f"<pre>{_text(json.dumps(media['example'], ensure_ascii=False))}</pre>" if "example" in media else ""


def _text(text: object) -> str:
    return html.escape(str(text))


def _prose(text: str) -> str:
    parts = _text(text).split("`")
    return "".join(f"<code>{part}</code>" if at % 2 else part for at, part in enumerate(parts))
