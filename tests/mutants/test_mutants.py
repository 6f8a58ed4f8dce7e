"""Every mutant finds what it patches, every promise has a mutant, and what is said to be caught is."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.consensus.regressions import ROWS
from tests.mutants.catalogue import MUTANTS, mutant
from tests.mutants.catching import ROOT, Catch, Result, catch, trouble_without_mutant
from tests.mutants.mutant import Mutant, Promise, Selection
from tests.mutants.table import markdown

SAMPLE = Random(20).sample([each for each in MUTANTS if len(each.caught_by) == 1], 3)
"""All of them take minutes: ``make mutants``. These have one catcher, which needs about a second."""


@pytest.mark.parametrize("each", MUTANTS, ids=lambda each: each.name)
def test_a_mutant_finds_what_it_patches(each: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    each.apply(monkeypatch)


def test_names_are_unique_and_catchers_exist() -> None:
    assert len({each.name for each in MUTANTS}) == len(MUTANTS) >= 40
    for each in MUTANTS:
        files = [file for catcher in each.caught_by if isinstance(catcher, Selection) for file in catcher.files]
        assert files
        assert all((ROOT / file).exists() for file in files)


def test_every_promise_and_every_row_of_the_audit_has_a_mutant() -> None:
    broken = {each.breaks for each in MUTANTS}
    assert broken == {*Promise, *(row.name for row in ROWS)}


@pytest.mark.parametrize("each", SAMPLE, ids=lambda each: each.name)
def test_a_mutant_is_caught(each: Mutant) -> None:
    result = catch(each)
    assert result.catches, result.survived


def made_up(tmp_path: Path, body: str) -> str:
    file = tmp_path / "test_made_up.py"
    file.write_text(f"def test_made_up():\n    {body}\n")
    return str(file)


def test_a_test_that_fails_anyway_catches_nothing(tmp_path: Path) -> None:
    assert "fails without any mutant" in trouble_without_mutant(made_up(tmp_path, "assert 1 == 2"))


def test_a_file_without_tests_catches_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_empty.py").write_text("")
    assert "has no tests" in trouble_without_mutant(str(tmp_path / "test_empty.py"))


@pytest.mark.parametrize("body", ["pass", "None.no_such_method()"], ids=["no test fails", "the mutant is mistaken"])
def test_a_survivor_is_called_one(tmp_path: Path, body: str) -> None:
    selection = Selection((made_up(tmp_path, body),))
    survivor = Mutant(MUTANTS[0].name, Promise.KEPT, MUTANTS[0].apply, (selection,))
    result = catch(survivor)
    assert result.catches == ()
    assert any("AttributeError" in what for what in result.survived) == (body != "pass")
    assert "SURVIVED" in markdown([result])


def test_the_table_survives_names_with_bars() -> None:
    result = Result(MUTANTS[0], (Catch("tests/test_x.py::test_y[a|b]", "3 tests", ""),), (), 1.0)
    assert "| test_x.py::test_y[a\\|b] | 3 tests | 1.0 |" in markdown([result])


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(LookupError, match="no mutant is called 'x'"):
        mutant("x")
