"""docs/operations.md tells the quotas of every plan, and in which bounds each may be set."""

from __future__ import annotations

from pathlib import Path

from holdfast.wire.limits import WEIGHT_MAX
from holdfast.wire.tenants import DEFAULT_PLAN, PLANS
from holdfast_shard.machine.tenant_rules import QUOTA_RANGES

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()


def rows_of(page: str, head: str) -> list[list[str]]:
    table = page[page.index(head) :].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_the_page_shows_every_quota_of_every_plan() -> None:
    shown = rows_of(PAGE, f"| quota | what | {' | '.join(PLANS)} | may be |")
    wanted = [
        [f"`{name}`", *(f"{getattr(plan.quotas, name):,}" for plan in PLANS.values()), f"{low:,} to {high:,}"]
        for name, (low, high) in QUOTA_RANGES.items()
    ]
    assert [[name, *cells] for name, _, *cells in shown[:-1]] == wanted
    name, _, *weights = shown[-1]
    assert [name, *weights] == ["`weight`", *(f"{plan.weight:,}" for plan in PLANS.values()), f"1 to {WEIGHT_MAX:,}"]


def test_the_page_says_which_plan_is_the_default() -> None:
    assert f"without `--plan` it is `{DEFAULT_PLAN}`" in PAGE
