"""Seeds the bug into processes that a test starts: Python imports this at start when its folder is on PYTHONPATH."""

from __future__ import annotations

import os

import pytest

from tests.mutants.catalogue import mutant

mutant(os.environ["HOLDFAST_TEST_MUTANT"]).apply(pytest.MonkeyPatch())
