"""Sections whose answers the router itself waits for: administrators', and those that are noted first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from holdfast.wire.errors import BadMessage, InvalidArgument, Unavailable
from holdfast.wire.frames import (
    FIRST_READ,
    Answers,
    DecodeError,
    Kind,
    Options,
    Section,
    Stamped,
    Status,
    decode_answers,
    encode,
)
from holdfast.wire.messages import Msg

from .item import Item, Outcome

NO_SLOT = 0xFFFF

T = TypeVar("T")


class Question:
    """The caller of an item whose answer the router wants itself."""

    __slots__ = ("_answer",)

    def __init__(self) -> None:
        self._answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def settle(self, outcome: Outcome) -> None:
        if not self._answer.done():
            self._answer.set_result(outcome)

    async def outcome(self) -> Outcome:
        return await self._answer


class Asker:
    """``submit`` gives an item to a group's dispatch, which answers every item by its deadline."""

    def __init__(self, submit: Callable[[int, Item], None], clock: Callable[[], float]) -> None:
        self._submit = submit
        self._clock = clock

    async def carry(self, group: int, item: Item, wait_s: float) -> Outcome:
        """The item with its answer for us instead of its caller; it is given ``wait_s`` from now."""
        question, now = Question(), self._clock()
        self._submit(group, msgspec.structs.replace(item, caller=question, arrived=now, deadline=now + wait_s))
        return await question.outcome()

    async def ask(
        self,
        group: int,
        tenant: int,
        kind: Kind,
        *,
        wait_s: float,
        slot: int = NO_SLOT,
        client: int = 0,
        name: str = "",
        lease: int = 0,
        token: int = 0,
        options: Options | None = None,
    ) -> Answers:
        """One operation, seq 1 of ``client``. Raises what the refusal says."""
        seq = 1 if client else 0
        section = Section(
            client, seq, bytes([kind]), [seq], [name], [lease], [token], [0], [0], {0: options} if options else {}
        )
        body = encode(Stamped(tenant, slot.to_bytes(2, "little"), section))
        message = Msg.READ if kind >= FIRST_READ else Msg.OPS
        # Few and small: what rules the cluster waits behind no tenant's load.
        item = Item(None, 0, message, body, 0.0, client, tenant=tenant, exempt=True)
        return answers_of(await self.carry(group, item, wait_s))


def answers_of(outcome: Outcome) -> Answers:
    """Raises what the refusal says."""
    if outcome.answers is None:
        assert outcome.refusal is not None, "an item ends with answers or with a refusal"
        raise outcome.refusal.error()
    try:
        return decode_answers(outcome.answers)
    except DecodeError as error:
        raise BadMessage(f"these are no answers: {error}") from None


def detail_of(answers: Answers, kind: type[T]) -> T:
    """What a read was answered. Raises what it was refused for."""
    status = answers.statuses[0] if answers.statuses else -1
    detail: Any = answers.details.get(0)
    if status == Status.INVALID:
        raise InvalidArgument(str(detail))
    if status == Status.AGAIN:
        raise Unavailable("there was no room for this read beside others: ask again")
    try:
        return msgspec.convert(detail, kind)
    except msgspec.ValidationError as error:
        raise BadMessage(f"this is no answer to a read: {error}") from None
