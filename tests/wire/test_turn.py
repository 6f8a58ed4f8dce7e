"""The end of a turn of the loop: everybody's work, then everybody's messages, in one callback."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holdfast.wire.turn import TurnEnd, turn_end


async def next_turn() -> None:
    await asyncio.sleep(0)


async def test_work_comes_before_messages_and_what_it_sends_leaves_with_the_rest() -> None:
    end, done = turn_end(), list[str]()

    def work() -> None:
        done.append("work")
        end.flush(lambda: done.append("of the work"))

    end.flush(lambda: done.append("first"))
    end.put_off(work)
    await next_turn()
    assert done == ["work", "first", "of the work"]


async def test_work_put_off_during_work_belongs_to_the_next_turn() -> None:
    end, done = turn_end(), list[str]()
    end.put_off(lambda: end.put_off(lambda: done.append("next")))
    end.flush(lambda: done.append("flushed"))
    await next_turn()
    assert done == ["flushed"]
    await next_turn()
    assert done == ["flushed", "next"]


async def test_what_is_put_off_while_messages_leave_is_done_once() -> None:
    end, done = turn_end(), list[str]()
    end.flush(lambda: end.put_off(lambda: done.append("later")))
    await next_turn()
    await next_turn()
    await next_turn()
    assert done == ["later"]


async def test_one_that_fails_keeps_nothing_back() -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    end, done = turn_end(), list[str]()
    error = ValueError("mine")

    def fail() -> None:
        raise error

    end.put_off(fail)
    end.put_off(lambda: done.append("work"))
    end.flush(fail)
    end.flush(lambda: done.append("messages"))
    await next_turn()
    assert done == ["work", "messages"]
    assert [context["exception"] for context in told] == [error, error]


def test_an_interrupt_loses_only_what_it_interrupted() -> None:
    done: list[str] = []

    def interrupt() -> None:
        raise KeyboardInterrupt

    async def begin() -> TurnEnd:
        end = turn_end()
        end.put_off(interrupt)
        end.put_off(lambda: done.append("work"))
        end.flush(lambda: done.append("messages"))
        kept.append(end)
        await next_turn()
        return end

    async def go_on() -> None:
        await next_turn()
        kept[0].put_off(lambda: done.append("more"))
        await next_turn()

    kept: list[TurnEnd] = []
    loop = asyncio.new_event_loop()
    try:
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(begin())
        loop.run_until_complete(go_on())
    finally:
        loop.close()
    assert done == ["work", "messages", "more"]


def test_every_loop_has_its_own() -> None:
    async def mine() -> int:
        assert turn_end() is turn_end()
        done = asyncio.Event()
        turn_end().put_off(done.set)
        await asyncio.wait_for(done.wait(), 1)
        return 1

    assert [asyncio.run(mine()) for _ in range(3)] == [1, 1, 1]
