"""``python -m holdfast_router.compiling``: make extensions of what every section passes in a router."""

from __future__ import annotations

import sys
from pathlib import Path

from holdfast.wire import compiling

from . import compiled


def make() -> Path:
    """As :func:`holdfast.wire.compiling.make`."""
    return compiling.make(compiled.directory(), [compiled.source_of(module) for module in compiled.MODULES])


if __name__ == "__main__":
    sys.exit(compiling.report(make, "routers"))
