"""What the audit log says of how something looked before an administrator took it."""

from __future__ import annotations

from typing import Any, cast

from holdfast.wire.errors import Unavailable
from holdfast.wire.frames import Answers, HolderView, Kind, LockPage, LockView, Mode, Options, SessionPage, SessionView
from holdfast_router.asking import Asker
from holdfast_router.beforehand import HOLDERS_MAX, Beforehand, together

SESSION = b"s" * 16


class Groups:
    """Answers reads with what is laid down for each group."""

    def __init__(self, *details: object) -> None:
        self.details = details
        self.asked: list[Options | None] = []

    async def ask(self, group: int, tenant: int, kind: Kind, **rest: Any) -> Answers:
        self.asked.append(rest.get("options"))
        detail = self.details[group - 1]
        if detail is None:
            raise Unavailable("no leader")
        return Answers(b"\0", [0], [0], {0: detail})

    @property
    def beforehand(self) -> Beforehand:
        return Beforehand(cast(Asker, self), lambda: list(range(1, len(self.details) + 1)), lambda tenant, name: (1, 0))


def holder(token: int, metadata: bytes = b"", mode: Mode = Mode.SHARED) -> HolderView:
    return HolderView(token, int(mode), 0, 1, 1, b"", metadata, 0, 0, "free")


def session(held: int, waiting: int, number: bytes = SESSION) -> SessionPage:
    return SessionPage([SessionView(number, 1, 1, 1000, 1000, held, waiting, b"worker")], "")


async def test_the_holders_of_a_lock_and_how_many_wait() -> None:
    one = Groups(LockView("a", 0, 3, [holder(7, b"worker 1", Mode.EXCLUSIVE)], held=1))
    assert await one.beforehand.lock(1, "a") == {"holders": "token 7 exclusive (worker 1)", "waiters": "3"}
    nobody = Groups(LockView("a", 0, 0, [], held=0))
    assert await nobody.beforehand.lock(1, "a") == {"holders": "none", "waiters": "0"}
    many = Groups(LockView("a", 0, 0, [holder(token) for token in range(1, 11)], held=300))
    look = await many.beforehand.lock(1, "a")
    assert look["holders"].endswith(f"token {HOLDERS_MAX} shared, {300 - HOLDERS_MAX} more")


async def test_a_session_in_all_groups_found_by_its_id_alone() -> None:
    groups = Groups(session(2, 1), session(3, 0), session(9, 9, b"t" * 16))
    assert await groups.beforehand.session(1, SESSION) == {"locks": "5", "waiting": "1", "metadata": "worker"}
    options = groups.asked[0]
    assert options is not None
    assert (bytes.fromhex(options.cursor), options.limit) == (b"s" * 15 + b"r", 1)
    assert await Groups(session(9, 9)).beforehand.session(1, bytes(16)) == {"locks": "none", "waiting": "0"}


async def test_why_it_could_not_be_seen_is_said_and_stops_nothing() -> None:
    assert await Groups(None).beforehand.lock(1, "a") == {"not seen": "no leader"}
    assert await Groups(session(1, 1), None).beforehand.session(1, SESSION) == {"not seen": "no leader"}
    assert "not seen" in await Groups(LockPage([], "")).beforehand.lock(1, "a")


def test_of_several_things_each_is_named() -> None:
    looks = {"a": {"holders": "none", "waiters": "0"}, "b": {"not seen": "no leader"}}
    assert together(looks) == {"holders": "a: none", "waiters": "a: 0", "not seen": "b: no leader"}
    assert together({"a": looks["a"]}) == looks["a"]
