"""The load harness: ``holdfast bench``, and what ``loadtests/`` measures with."""

from __future__ import annotations

from .harness import BenchFailed, measure
from .report import Report
from .spec import Mode, Spec

__all__ = ["BenchFailed", "Mode", "Report", "Spec", "measure"]
