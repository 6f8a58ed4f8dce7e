"""What tests of faults need of the machine. In CI a missing tool is a failure; elsewhere the test is skipped."""

from __future__ import annotations

import os
from functools import lru_cache

import pytest

from .faults import Need, missing_needs


@lru_cache(maxsize=1)
def _missing() -> dict[Need, str]:
    return missing_needs()


def needs(*wanted: Need) -> pytest.MarkDecorator:
    why = "; ".join(_missing()[need] for need in wanted if need in _missing())
    return pytest.mark.skipif(bool(why) and "CI" not in os.environ, reason=why)
