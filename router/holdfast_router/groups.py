"""The groups of a cluster as its router sees them: who leads each, and the turns in which frames leave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from holdfast.wire.errors import Code
from holdfast.wire.messages import GroupRole, Refusal
from holdfast.wire.turn import turn_end

from .dispatch import GroupDispatch
from .item import Item, Outcome

META_GROUP: Final = 0
EXPIRE_EVERY_S = 0.02

Send = Callable[[int, int, int, int, bytes], bool]
"""(node, kind, group, request id, body): False when there is no connection."""


def no_such_group(group: int) -> Refusal:
    return Refusal(Code.NO_SUCH_GROUP, f"no group {group} here")


class Groups:
    """``deliver`` gives an outcome of a group to whoever asked."""

    def __init__(self, send: Send, deliver: Callable[[int, Outcome], None]) -> None:
        self._send = send
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._dispatches: dict[int, GroupDispatch] = {}
        self._roles: dict[int, GroupRole] = {}
        self._turn_end = turn_end()
        self._due: dict[GroupDispatch, None] = {}
        """Whose turn it is when all that has come in this turn of the loop was heard."""
        self._expiry: asyncio.TimerHandle | None = None

    # Looking.

    def serves(self, group: int) -> bool:
        """Whether callers may send sections to it."""
        return group in self._dispatches and group != META_GROUP

    @property
    def led(self) -> bool:
        """Whether there are groups, and every one has a leader."""
        dispatches = self._dispatches.values()
        return bool(dispatches) and all(dispatch.leader for dispatch in dispatches)

    @property
    def leaders(self) -> dict[int, int]:
        """The node that leads, 0 when none is known, of each group."""
        return {group: dispatch.leader for group, dispatch in self._dispatches.items()}

    @property
    def dispatches(self) -> list[GroupDispatch]:
        """To look at."""
        return list(self._dispatches.values())

    def roles(self) -> list[GroupRole]:
        """Leaders, as callers are told of them."""
        return list(self._roles.values())

    # From callers.

    def refusal(self, group: int, item: Item) -> Refusal | None:
        """As :meth:`GroupDispatch.refusal`."""
        return self._dispatches[group].refusal(item)

    def count_refused(self, group: int, refusal: Refusal, operations: int) -> None:
        """So many operations for ``group`` were refused for load before they were submitted."""
        self._dispatches[group].refusals[refusal.code] += operations

    def submit(self, group: int, item: Item, *, looked: bool = False) -> None:
        """``looked``: :meth:`refusal` has just said that it finds room and time."""
        dispatch = self._dispatches.get(group)
        if dispatch is None:
            self._deliver(group, Outcome(item, None, no_such_group(group)))
            return
        dispatch.submit(item, looked=looked)
        self._wake(dispatch)

    def drop_caller(self, caller: object) -> None:
        for dispatch in self._dispatches.values():
            dispatch.drop_caller(caller)

    # From nodes.

    def add(self, groups: Iterable[int]) -> None:
        for group in groups:
            self._dispatches.setdefault(group, GroupDispatch(group))

    def heard(self, node: int, roles: list[GroupRole]) -> list[GroupRole]:
        """What a node says of its roles; returns what is new of leaders. To be followed by :meth:`wake`."""
        changed: list[GroupRole] = []
        for role in roles:
            dispatch = self._dispatches.setdefault(role.group, GroupDispatch(role.group))
            before = (dispatch.leader, dispatch.term)
            dispatch.role(node, role)
            if dispatch.leader and (dispatch.leader, dispatch.term) != before:
                self._roles[role.group] = GroupRole(role.group, dispatch.term, dispatch.leader, True)
                changed.append(self._roles[role.group])
        return changed

    def disconnected(self, node: int) -> None:
        """To be followed by :meth:`wake`."""
        for dispatch in self._dispatches.values():
            dispatch.disconnected(node)

    def answered(self, group: int, request: int, body: bytes) -> None:
        dispatch = self._dispatches[group]
        dispatch.answered(request, body, self._loop.time())
        self._wake(dispatch)

    def refused(self, group: int, request: int, refusal: Refusal) -> None:
        dispatch = self._dispatches.get(group)
        if dispatch is not None:
            dispatch.refused(request, refusal, self._loop.time())
            self._wake(dispatch)

    # Turns.

    def wake(self) -> None:
        """A turn of every group follows."""
        for dispatch in self._dispatches.values():
            self._wake(dispatch)

    def _wake(self, dispatch: GroupDispatch) -> None:
        if not self._due:
            self._turn_end.put_off(self._turn)
        self._due[dispatch] = None

    def _turn(self) -> None:
        now = self._loop.time()
        due, self._due = self._due, {}
        if self._expiry is None and any(dispatch.busy for dispatch in due):
            self._expiry = self._loop.call_later(EXPIRE_EVERY_S, self._expire)
        for dispatch in due:
            dispatch.turn(now)
            if dispatch.frames:
                self._flush(dispatch)
            if dispatch.outcomes:
                self._deliver_all(dispatch)

    def _expire(self) -> None:
        self._expiry = None
        now = self._loop.time()
        for dispatch in self._dispatches.values():
            if dispatch.busy:
                dispatch.expire(now)
                self._wake(dispatch)

    def _flush(self, dispatch: GroupDispatch) -> None:
        while dispatch.frames:
            frames, dispatch.frames = dispatch.frames, []
            for frame in frames:
                if not self._send(frame.node, frame.kind, dispatch.group, frame.request, frame.body):
                    dispatch.unsent(frame)

    def settle(self, group: int) -> None:
        """Deliver what is known of the group's outcomes now, not in the next turn."""
        if group in self._dispatches:
            self._deliver_all(self._dispatches[group])

    def _deliver_all(self, dispatch: GroupDispatch) -> None:
        outcomes, dispatch.outcomes = dispatch.outcomes, []
        for outcome in outcomes:
            self._deliver(dispatch.group, outcome)

    def close(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
