"""What is told while a watcher reads all of it anew: of a name that is in both, what was told counts."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from holdfast.core.call import Call
from holdfast.core.client import ClientCore
from holdfast.core.watch import Watch
from holdfast.wire.frames import HolderView, Kind, LockPage, LockView, Status, encode
from holdfast.wire.messages import Watched


def held(name: str, token: int) -> LockView:
    return LockView(name, 1, 0, [HolderView(token, 0, 1, 1, 1, b"", b"", 0, 1000, "free")], 0, 1)


class Core:
    """A client of one group, whose reads are answered by hand."""

    def __init__(self) -> None:
        self.watches: dict[Watch, None] = {}
        self.watched_names = 0
        self.connected, self.closing, self.timeout_ms, self.rng = True, False, 5000.0, Random(1)
        self.driver = SimpleNamespace(send=lambda *_: None)
        self.asked: list[tuple[Call, int]] = []
        lane = SimpleNamespace(call=lambda call, kind, *_: self.asked.append((call, kind)))
        self._group = SimpleNamespace(number=1, reads=lane, writes=lane)

    def clock(self) -> float:
        return 0.0

    def all_groups(self) -> list[Any]:
        return [self._group]

    def group_of(self, name: str) -> Any:
        return self._group

    def group(self, number: int) -> Any:
        return self._group

    def watching(self, receiver: object, group: int, body: bytes) -> int:
        self.receiver: Any = receiver
        return 7

    def watching_no_more(self, request: int) -> None:
        """It hears nothing but what the test says."""

    def tell(self, *views: LockView, fresh: bool = False) -> None:
        self.receiver.answered(7, encode(Watched(fresh, list(views))))

    def answer(self, at: int, detail: LockView | LockPage) -> None:
        call, kind = self.asked[at]
        call.answered(kind, Status.OK, 0, 0, msgspec.to_builtins(detail, builtin_types=(bytes,)), 0, 0.0)


@pytest.fixture
def core() -> Core:
    return Core()


def begun(core: Core, target: str, *, prefix: bool) -> Watch:
    watch = Watch(cast(ClientCore, core), target, prefix=prefix)
    core.tell(fresh=True)
    assert [kind for _, kind in core.asked] == [Kind.LIST if prefix else Kind.GET]
    return watch


def taken(watch: Watch) -> dict[str, list[int]]:
    changed = {name: [holder.token for holder in view.holders] for name, view in watch.changed.items()}
    watch.changed.clear()
    return changed


def test_a_reading_that_was_overtaken_takes_nothing_back(core: Core) -> None:
    watch = begun(core, "a", prefix=False)
    core.tell(held("a", 5))
    core.answer(0, held("a", 4))
    assert taken(watch) == {"a": [5]}
    core.tell(held("a", 6))
    assert taken(watch) == {"a": [6]}


def test_a_page_counts_for_what_was_not_told_meanwhile(core: Core) -> None:
    watch = begun(core, "", prefix=True)
    core.tell(held("a", 5), LockView("b", 0, 0, []))
    core.answer(0, LockPage([held("a", 4), held("b", 3), held("c", 2)], ""))
    assert taken(watch) == {"a": [5], "c": [2]}


def test_what_was_told_and_is_not_found_has_become_free(core: Core) -> None:
    watch = begun(core, "", prefix=True)
    core.answer(0, LockPage([held("a", 4), held("b", 3)], ""))
    assert taken(watch) == {"a": [4], "b": [3]}
    core.tell(fresh=True)
    core.tell(held("c", 9))
    core.answer(1, LockPage([held("b", 3)], ""))
    assert taken(watch) == {"c": [9], "a": []}


def test_only_the_latest_reading_counts(core: Core) -> None:
    watch = begun(core, "a", prefix=False)
    core.tell(fresh=True)
    core.answer(1, held("a", 5))
    core.answer(0, held("a", 4))
    assert taken(watch) == {"a": [5]}
