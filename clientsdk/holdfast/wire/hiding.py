"""Values that hold secrets are written down, by a debugger or in a message, without them."""

from __future__ import annotations

from typing import Final

import msgspec

HIDDEN: Final = "<hidden>"


def shown(value: msgspec.Struct, *hidden: str) -> str:
    """A ``repr`` in which the fields ``hidden`` are not told, but whether they are empty."""
    parts = []
    for name in value.__struct_fields__:
        field = getattr(value, name)
        parts.append(f"{name}={HIDDEN if name in hidden and field else repr(field)}")
    return f"{type(value).__name__}({', '.join(parts)})"
