"""What of the cluster's status is whose to see: all of it the operator's, to tenants only whether they are served.

How much is held, how fast logs grow, how many others are connected, and where servers are, would tell one tenant about
the others.
"""

from __future__ import annotations

from typing import Any, Final

_OF_NODE: Final = ("node", "up")
_OF_GROUP: Final = ("group", "role", "leader", "term", "ready")


def for_tenants(status: dict[str, Any]) -> dict[str, Any]:
    """The part of a whole status that every tenant may see."""
    return {
        "whole": False,
        "router": {"address": status["router"]["address"]},
        "nodes": [
            {**_part(node, _OF_NODE), "groups": [_part(group, _OF_GROUP) for group in node.get("groups", ())]}
            for node in status["nodes"]
        ],
    }


def _part(whole: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: whole[name] for name in names if name in whole}
