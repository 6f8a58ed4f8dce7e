"""Frames as routers send them, and what is left of one when patience has ended for some of its sections."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.wire.errors import BadMessage, TooLarge
from holdfast.wire.frames import Kind, decode_raw_list, encode
from holdfast.wire.limits import FRAME_BYTES_MAX, SECTIONS_PER_FRAME_MAX
from holdfast.wire.messages import FrameRequest
from holdfast_shard.node.frame import Frame, read_frame
from tests.machine.driver import Op, frame, section


def sections_of(body: bytes) -> list[bytes]:
    return [bytes(raw) for raw in decode_raw_list(body)]


ONE = sections_of(frame(1, section(0, 0, [Op(Kind.REGISTER)])))[0]


def sent(patience_ms: list[int], sections: list[bytes], now: float = 0.0) -> Frame:
    body = encode([msgspec.Raw(each) for each in sections])
    return read_frame("r", 1, encode(FrameRequest(patience_ms, msgspec.Raw(body))), now)[0]


def numbered(count: int) -> list[bytes]:
    return [frame(tenant, section(tenant, 1, [Op(Kind.KEEPALIVE, 1)]))[1:] for tenant in range(1, count + 1)]


def test_a_frame_is_written_as_it_came_while_somebody_waits_for_all_of_it() -> None:
    came = sent([20, 0, 10], numbered(3), now=5.0)
    assert came.awaited(5.0099) is came
    assert sections_of(came.body) == numbered(3)
    assert came.complete(b"as it is") == b"as it is"
    everlasting = sent([], numbered(3))
    assert everlasting.awaited(1e9) is everlasting


def test_what_nobody_waits_for_is_left_out_and_named() -> None:
    first, second, third = numbered(3)
    came = sent([20, 0, 10], [first, second, third], now=5.0)
    less = came.awaited(5.01)
    assert sections_of(less.body) == [first, second]
    assert msgspec.msgpack.decode(less.complete(encode(["a", "b"]))) == ["a", "b", None]
    least = less.awaited(5.02)
    assert sections_of(least.body) == [second]
    assert msgspec.msgpack.decode(least.complete(encode(["b"]))) == [None, "b", None]
    assert least.awaited(1e9) is least
    assert not least.is_void
    void = sent([1, 1], [first, second]).awaited(1.0)
    assert void.is_void
    assert msgspec.msgpack.decode(void.complete(encode([]))) == [None, None]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.lists(st.integers(0, 60), max_size=4))
def test_whenever_it_is_looked_at_what_is_left_is_what_somebody_waits_for(
    patience: list[int], looks: list[int]
) -> None:
    sections = numbered(len(patience))
    came = sent(patience, sections)
    for at_ms in sorted(looks):
        came = came.awaited(at_ms / 1000)
        left = [at for at, each in enumerate(patience) if not each or at_ms < each]
        assert sections_of(came.body) == [sections[at] for at in left]
        answers = encode([msgspec.Raw(encode(at)) for at in left])
        told = msgspec.msgpack.decode(came.complete(answers))
        assert told == [at if at in left else None for at in range(len(patience))]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"\xc1", BadMessage),
        (encode([[], [1]]), BadMessage),
        (encode(FrameRequest([1], msgspec.Raw(encode([])))), BadMessage),
        (encode(FrameRequest([1, 2], msgspec.Raw(b"\x91" + ONE))), BadMessage),
        (encode([["soon"], [msgspec.Raw(ONE)]]), BadMessage),
        (encode([[], b""]) + b"\x00", BadMessage),
        (b"\x92\x90" + b"\x91" * 100_000 + b"\xc0", BadMessage),
        (encode([[], bytes(FRAME_BYTES_MAX)]), TooLarge),
        (encode([[], [msgspec.Raw(ONE)] * (SECTIONS_PER_FRAME_MAX + 1)]), TooLarge),
    ],
)
def test_what_is_no_frame_is_refused(body: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        read_frame("r", 1, body, 0.0)


def test_the_largest_frame_is_read() -> None:
    came = sent([60_000] * SECTIONS_PER_FRAME_MAX, [ONE] * SECTIONS_PER_FRAME_MAX)
    assert len(sections_of(came.awaited(59.0).body)) == SECTIONS_PER_FRAME_MAX
    assert came.awaited(60.0).is_void
