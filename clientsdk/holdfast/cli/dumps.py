"""A command that crashes leaves no picture of its memory, which holds keys."""

from __future__ import annotations

import ctypes
import sys
from typing import Final

PR_SET_DUMPABLE: Final = 4


def forbid_core_dumps() -> None:
    """Of this process alone: what it starts is asked anew. Linux; elsewhere nothing is done."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
