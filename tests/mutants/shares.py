"""Bugs of the allotments: of how totals are split over groups, and of how what a group says is taken."""

from __future__ import annotations

from holdfast_shard.machine import LockMachine, allotments
from holdfast_shard.machine.allotments import Allotments, Share, Use

from .mutant import Mutant, Promise, Selection, Simulation, patch

_SHARES = Selection(("tests/machine/test_allotments.py",))
_PROCESSES = Selection(("tests/integration/test_quotas.py",), children=True)

_NOTE = Allotments._note
_MOVE = allotments._move


def _promises_only_the_target(shares: list[Share], resource: int, total: int, anew: bool) -> None:
    """A group that was told of less counts for less at once, though it may not have heard of it."""
    _MOVE(shares, resource, total, anew)
    for share in shares:
        share.promised[resource] = share.target[resource]


def _takes_any_version(self: Allotments, share: Share, group: int, use: Use) -> None:
    """What was said under an older version is taken as said under the newest."""
    _NOTE(self, share, group, Use(use.tenant, share.version, use.used, use.wanted))


def _believes_an_older_report(self: Allotments, share: Share, group: int, use: Use) -> None:
    _NOTE(self, share, group, use)
    if use.version == share.version:
        share.promised = [max(pair) for pair in zip(share.target, share.used, strict=True)]


def _gives_more_than_is_free(shares: list[Share], resource: int, total: int, anew: bool) -> None:
    _MOVE(shares, resource, total + 1, anew)


MUTANTS = (
    Mutant(
        "allotments: a lowered share is free before its group has said so",
        Promise.COUNTED,
        patch(allotments, "_move", _promises_only_the_target),
        (_SHARES, _PROCESSES),
    ),
    Mutant(
        "allotments: a report under an older version counts",
        Promise.COUNTED,
        patch(Allotments, "_note", _takes_any_version),
        (_SHARES,),
    ),
    Mutant(
        "allotments: an older report raises a promise again",
        Promise.COUNTED,
        patch(Allotments, "_note", _believes_an_older_report),
        (_SHARES,),
    ),
    Mutant(
        "allotments: one more than the total is shared out",
        Promise.COUNTED,
        patch(allotments, "_move", _gives_more_than_is_free),
        (_SHARES, _PROCESSES, Simulation()),
    ),
    Mutant(
        "allotments: nobody reports at once what was refused",
        Promise.ANSWERED,
        patch(LockMachine, "has_noteworthy", False),
        (Selection(("tests/node/test_use_reporter.py",)),),
    ),
)
