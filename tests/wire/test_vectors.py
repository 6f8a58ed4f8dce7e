"""docs/wire.md tells the truth: every vector on the page is what the code makes."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from holdfast.wire.frames import Answers, Event, EventKind, Kind, Mode, Options, Section, Stamped, encode
from holdfast.wire.lockid import LockID
from holdfast.wire.messages import FrameRequest, Hello, Msg, Request
from holdfast.wire.names import slot_of
from holdfast.wire.stream import pack

PAGE = (Path(__file__).parents[2] / "docs" / "wire.md").read_text()
REGISTER = Section(0, 0, bytes([Kind.REGISTER]), [0], [""], [0], [0], [0], [0], {})
TWO = Section(
    9, 1, bytes([Kind.ACQUIRE, Kind.RELEASE]), [1, 2], ["orders/7", "orders/6"], [0, 0], [0, 41], [10_000, 0], [0, 0],
    {0: Options(mode=int(Mode.SHARED))},
)  # fmt: skip
SLOTS = b"".join(slot_of(1, name).to_bytes(2, "little") for name in TWO.names)


def test_the_vectors_of_the_page() -> None:
    made = [
        pack(Msg.HELLO, 0, 0, encode(Hello(1, "client", "hf_x"))),
        pack(Msg.OPS, 2, 1, encode(Request(5000, msgspec.Raw(encode(REGISTER))))),
        encode(TWO),
        encode(Answers(b"\x00\x00", [42, 0], [10_000, 0], {})),
        encode(FrameRequest([250], msgspec.Raw(encode([Stamped(1, SLOTS, TWO)])))),
        encode([Event(1, 9, int(EventKind.GRANTED), 3, 3, "orders/8", 43, 12_000, 1, 0)]),
    ]
    assert [f"`{data.hex()}`" in PAGE for data in made] == [True] * len(made)


def test_the_lock_id_of_the_page() -> None:
    assert f"`{LockID(1, 'orders/7', 42).text(bytes(range(32)))}`" in PAGE


def test_the_slots_of_the_page() -> None:
    row = PAGE[PAGE.index("| slots of tenant 1 |") :].splitlines()[0]
    found = re.findall(r"`([^`]+)` (\d+)", row)
    assert found == [(name, str(slot_of(1, name))) for name, _ in found]
    assert len(found) == 4


def test_the_kinds_of_the_page() -> None:
    for number, name in re.findall(r"^\| (\d+) \| ([A-Z]+) \|", PAGE, re.MULTILINE):
        assert Msg[name] == int(number)
