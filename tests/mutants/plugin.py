"""A pytest plugin that seeds one bug into a run and writes down who noticed it.

``python -m pytest -p tests.mutants.plugin --mutant NAME --verdict FILE TESTS``; without a name it shows that the tests
pass. Tests that seed bugs themselves (marker ``seeds_bugs``) are left out: they judge tests, not the code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest
from hypothesis import Phase

from tests.mutants.catalogue import mutant

_HERE = Path(__file__).parent
_MISTAKES = (TypeError, AttributeError, NameError, ImportError)
"""What a badly written mutant raises: no proof that any test looks at what the mutant was meant to break."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mutant", default="", help="seed this bug before the first test")
    parser.addoption("--mutant-children", action="store_true", help="and in every process that a test starts")
    parser.addoption("--verdict", type=Path, required=True, help="write here, as JSON, what happened")


def pytest_configure(config: pytest.Config) -> None:
    # A found example must not be kept for runs without the bug; and a run must end the same way every time.
    hypothesis.settings.register_profile(
        "mutants", database=None, derandomize=True, deadline=None, phases=[Phase.explicit, Phase.generate]
    )
    hypothesis.settings.load_profile("mutants")
    judge = _Judge(config.getoption("--mutant"), config.getoption("--verdict"), config.getoption("--mutant-children"))
    config.pluginmanager.register(judge)


class _Judge:
    def __init__(self, name: str, verdict: Path, children: bool) -> None:
        self._name = name
        self._children = children
        self._verdict = verdict
        self._monkeypatch = pytest.MonkeyPatch()
        self._ran = 0
        self._failed = self._why = ""
        self._mistakes: list[str] = []

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        kept = [item for item in items if not item.get_closest_marker("seeds_bugs")]
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("seeds_bugs")])
        items[:] = kept

    def pytest_collection_finish(self) -> None:
        """Only now, so that a mutant that breaks the import of a test is not taken for one that was caught."""
        if self._name:
            mutant(self._name).apply(self._monkeypatch)
        if self._children:
            # Python imports `sitecustomize` at its start.
            self._monkeypatch.setenv("HOLDFAST_TEST_MUTANT", self._name)
            for folder in (_HERE.parents[1], _HERE / "children"):
                self._monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        self._ran += report.when == "call"
        if report.failed and call.excinfo is not None and not self._failed:
            line = call.excinfo.exconly(tryshort=True).partition("\n")[0]
            if any(isinstance(error, _MISTAKES) for error in _all_of(call.excinfo.value)):
                self._mistakes.append(f"{item.nodeid}: {line}")
            else:
                self._failed, self._why = item.nodeid, line
                item.session.shouldstop = "the mutant was caught"
        return report

    def pytest_sessionfinish(self) -> None:
        self._monkeypatch.undo()
        found = {"ran": self._ran, "failed": self._failed, "why": self._why, "mistakes": self._mistakes}
        self._verdict.write_text(json.dumps(found))


def _all_of(error: BaseException | None) -> Iterator[BaseException]:
    """The error, those that it stands for, and those that led to it."""
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for part in error.exceptions:
                yield from _all_of(part)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
