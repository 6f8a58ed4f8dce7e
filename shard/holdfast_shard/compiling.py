"""``python -m holdfast_shard.compiling``: make extensions of the hot modules of state machine and engine."""

from __future__ import annotations

import sys
from pathlib import Path

from holdfast.wire import compiling

from . import compiled


def make() -> Path:
    """As :func:`holdfast.wire.compiling.make`."""
    return compiling.make(compiled.directory(), [compiled.source_of(module) for module in compiled.MODULES])


if __name__ == "__main__":
    sys.exit(compiling.report(make, "nodes"))
