"""What a leader tells watchers: the latest look, to those who asked and listen, for as long as it leads."""

from __future__ import annotations

import pytest

from holdfast.wire.errors import Code
from holdfast.wire.frames import Kind
from holdfast.wire.messages import WatchRequest
from holdfast_shard.node import watches as module
from holdfast_shard.node.watches import Notice, Watches
from tests.machine.driver import Client, Cluster

TERM = 1


class Scene:
    def __init__(self) -> None:
        self.cluster = Cluster()
        self.client = self.cluster.client()
        self.watches = Watches(1, self.cluster.machine)
        self.deaf: set[object] = set()

    def ask(self, caller: object, request: int, name: str, *, prefix: bool = False, tenant: int = 1) -> None:
        self.watches.ask(caller, request, WatchRequest(name, prefix, True, tenant), TERM)

    def end(self, caller: object, request: int) -> None:
        self.watches.ask(caller, request, WatchRequest("", on=False), TERM)

    def take(self, term: int | None = TERM) -> list[Notice]:
        return self.watches.take(term, lambda caller: caller not in self.deaf)

    def told(self) -> dict[tuple[object, int], tuple[bool, list[str]]]:
        return {
            (notice.caller, notice.request): (notice.watched.fresh, [view.name for view in notice.watched.views])
            for notice in self.take()
        }

    def lock(self, name: str, client: Client | None = None) -> int:
        return (client or self.client).op(Kind.ACQUIRE, name).token

    def observed(self) -> bool:
        return self.cluster.machine._ledger.observer is not None


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_watch_begins_fresh_and_then_tells_the_latest_of_its_own_names(scene: Scene) -> None:
    scene.ask("one", 1, "a")
    scene.ask("one", 2, "jobs/", prefix=True)
    scene.ask("two", 1, "jobs/7")
    assert scene.told() == {("one", 1): (True, []), ("one", 2): (True, []), ("two", 1): (True, [])}
    token = scene.lock("a")
    scene.client.op(Kind.RELEASE, "a", token=token)
    held = scene.lock("a")
    scene.lock("jobs/7")
    scene.lock("elsewhere")
    looks = {(notice.caller, notice.request): notice.watched.views for notice in scene.take()}
    assert len(looks) == 3
    assert [view.holders[0].token for view in looks["one", 1]] == [held]
    assert [view.name for view in looks["one", 2]] == [view.name for view in looks["two", 1]] == ["jobs/7"]
    assert scene.take() == []


def test_tenants_never_hear_of_each_other(scene: Scene) -> None:
    scene.ask("one", 1, "a", tenant=2)
    scene.ask("one", 2, "", prefix=True, tenant=2)
    scene.told()
    scene.lock("a")
    assert scene.told() == {}
    scene.lock("a", scene.cluster.client(tenant=2))
    assert scene.told() == {("one", 1): (False, ["a"]), ("one", 2): (False, ["a"])}


def test_nothing_is_observed_unless_somebody_watches(scene: Scene) -> None:
    assert not scene.observed()
    scene.ask("one", 1, "a")
    scene.ask("two", 1, "b", prefix=True)
    assert scene.observed()
    scene.end("one", 1)
    assert scene.observed()
    scene.watches.drop_caller("two")
    assert (scene.observed(), scene.watches.busy) == (False, False)


def test_watches_end_with_the_office_and_others_are_refused(scene: Scene) -> None:
    scene.ask("one", 1, "a")
    scene.told()
    scene.lock("a")
    assert scene.take(term=None) == []
    assert not scene.observed()
    scene.watches.ask("one", 1, WatchRequest("a", tenant=1), None)
    (notice,) = scene.take(term=None)
    assert notice.watched.refusal is not None
    assert notice.watched.refusal.code == Code.NOT_LEADER
    scene.ask("one", 1, "a")
    scene.watches.ask("two", 1, WatchRequest("b", tenant=1), TERM + 1)
    assert [notice.caller for notice in scene.take(TERM + 1)] == ["two"]


def test_who_does_not_listen_is_told_afterwards_to_read_again(scene: Scene) -> None:
    scene.ask("one", 1, "a")
    scene.told()
    scene.deaf = {"one"}
    scene.lock("a")
    assert scene.told() == {}
    scene.deaf = set()
    assert scene.told() == {("one", 1): (True, [])}


def test_more_changes_than_are_remembered_tell_all_to_read_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WATCHED_CHANGES_MAX", 3)
    scene.ask("one", 1, "", prefix=True)
    scene.told()
    for number in range(5):
        scene.lock(f"n{number}")
    fresh, names = scene.told()["one", 1]
    assert fresh
    assert sorted(names) == ["n3", "n4"]


def test_a_group_has_a_bounded_number_of_watches(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WATCHES_PER_GROUP_MAX", 2)
    for request in (1, 2, 3):
        scene.ask("one", request, "a")
    refusals = [notice.watched.refusal for notice in scene.take()]
    assert sorted(refusal.code for refusal in refusals if refusal is not None) == [Code.OVERLOADED]
    scene.end("one", 1)
    scene.ask("one", 3, "a")
    assert scene.told() == {("one", 3): (True, [])}


def test_one_turn_looks_at_a_bounded_number_of_rows_and_the_rest_is_told_next(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast_shard.machine.envelope.READ_ROWS_PER_FRAME_MAX", 4)
    scene.ask("one", 1, "", prefix=True)
    scene.told()
    for number in range(10):
        scene.lock(f"n{number}")
    told: list[str] = []
    turns = 0
    while scene.watches.pending:
        turns += 1
        told += scene.told()["one", 1][1]
    assert sorted(told) == [f"n{number}" for number in range(10)]
    assert turns > 1
