"""Names, LockIDs, errors and frames: limits at and beyond, round trips, and any bytes."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holdfast.wire import messages
from holdfast.wire.errors import (
    Code,
    HoldfastError,
    InvalidLockID,
    InvalidName,
    OutcomeUnknown,
    Overloaded,
    error_of,
)
from holdfast.wire.frames import (
    Answers,
    Event,
    Options,
    Section,
    decode_answers,
    decode_events,
    decode_frame,
    decode_section,
    encode,
)
from holdfast.wire.limits import NAME_BYTES_MAX, SLOTS, TOKEN_MAX
from holdfast.wire.lockid import LockID, parse_lock_id
from holdfast.wire.names import check_name, slot_of, tag_of
from holdfast.wire.sealing import seal_key, sealed

KEY = seal_key("secret", 1)

# Names.


@pytest.mark.parametrize(
    "name", ["a", "a" * NAME_BYTES_MAX, "ü" * (NAME_BYTES_MAX // 2), " ", "a b/c:d", "🔒", "a\u00a0b"]
)
def test_good_names(name: str) -> None:
    check_name(name)
    assert 0 <= slot_of(1, name) < SLOTS


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a" * (NAME_BYTES_MAX + 1),
        "ü" * (NAME_BYTES_MAX // 2) + "a",
        "a\x00",
        "a\nb",
        "\x7f",
        "a\x85",
        "\ud800",
        7,
        None,
    ],
)
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidName):
        check_name(name)


@given(st.text())
def test_any_text_is_a_name_or_refused(name: str) -> None:
    try:
        check_name(name)
    except InvalidName:
        return
    assert 0 < len(name.encode()) <= NAME_BYTES_MAX
    assert 0 <= slot_of(2, name) < SLOTS


@pytest.mark.parametrize(
    ("name", "tag"),
    [("{a}b", "a"), ("x{a}b", "a"), ("{}b", "{}b"), ("{a", "{a"), ("a}", "a}"), ("{a}{b}", "a"), ("{{a}}", "{a")],
)
def test_tags_follow_redis_cluster(name: str, tag: str) -> None:
    assert tag_of(name) == tag
    assert slot_of(1, name) == slot_of(1, tag) or "{" in tag


def test_slots_spread_and_tenants_differ() -> None:
    slots = {slot_of(1, f"orders/{n}") for n in range(20_000)}
    assert len(slots) > SLOTS * 0.95
    assert any(slot_of(1, f"n{n}") != slot_of(2, f"n{n}") for n in range(10))


# LockIDs.


@given(
    st.builds(
        LockID,
        st.integers(1, 2**31),
        st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=100),
        st.integers(1, TOKEN_MAX),
    )
)
def test_lock_ids_go_there_and_back(lock_id: LockID) -> None:
    assert parse_lock_id(lock_id.text(KEY), lock_id.tenant, KEY) == lock_id


@given(st.text(max_size=60), st.booleans())
def test_any_other_text_is_no_lock_id(text: str, prefixed: bool) -> None:
    with pytest.raises(InvalidLockID):
        parse_lock_id("hf1_" + text if prefixed else text, 1, KEY)


def test_a_mistyped_lock_id_is_refused() -> None:
    text = LockID(1, "a", 7).text(KEY)
    for at in range(4, len(text)):
        changed = text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]
        try:
            # The last character may differ in bits that stand for nothing.
            assert parse_lock_id(changed, 1, KEY) == LockID(1, "a", 7)
            assert at == len(text) - 1
        except InvalidLockID:
            pass


def test_lock_ids_of_other_tenants_made_up_and_damaged_are_told_alike() -> None:
    key_of_2 = seal_key("secret", 2)
    texts = {
        "another tenant's": LockID(2, "a", 7).text(key_of_2),
        "another tenant's number, sealed by ours": LockID(2, "a", 7).text(KEY),
        "ours, sealed by another": LockID(1, "a", 7).text(key_of_2),
        "sealed without a key": LockID(1, "a", 7).text(b""),
        "of another purpose": "hf1_" + sealed(KEY, b"page", msgspec.msgpack.encode([1, "a", 7])),
        "an impossible token": LockID(1, "a", 0).text(KEY),
        "damaged": LockID(1, "a", 7).text(KEY)[:-4],
    }
    told = set()
    for text in texts.values():
        with pytest.raises(InvalidLockID) as caught:
            parse_lock_id(text, 1, KEY)
        told.add(str(caught.value))
    assert len(told) == 1


def test_keys_differ_by_tenant_and_by_cluster() -> None:
    assert len({seal_key(secret, tenant) for secret in ("a", "b") for tenant in (0, 1, 2**31)}) == 6


def test_a_lock_id_nested_without_end_is_no_lock_id() -> None:
    """Fields that were skipped unread once took the reader's stack, far down in a program also a small one."""
    body = b"\x94\x01\xa1a\x07" + b"\x91" * 700 + b"\xc0"
    text = sealed(KEY, b"lock id", body)

    def far_down(frames: int) -> None:
        if frames:
            far_down(frames - 1)
            return
        with pytest.raises(InvalidLockID):
            parse_lock_id("hf1_" + text, 1, KEY)

    far_down(400)


# Errors.


def test_every_code_has_its_error_and_an_unknown_one_is_read_as_unknown_outcome() -> None:
    for code in Code:
        error = error_of(code, "why")
        assert error.code == code
        assert messages.refusal_of(error).code == code
    assert type(error_of(9999, "why")) is OutcomeUnknown
    overloaded = error_of(Code.OVERLOADED, "why", 70)
    assert isinstance(overloaded, Overloaded)
    assert overloaded.retry_after_ms == 70
    assert isinstance(overloaded, HoldfastError)


# Frames.

ints = st.integers(0, 2**53)
sections = st.integers(0, 6).flatmap(
    lambda n: st.builds(
        Section, ints, ints, st.binary(min_size=n, max_size=n), *[st.lists(ints, min_size=n, max_size=n)],
        st.lists(st.text(max_size=20), min_size=n, max_size=n),
        *[st.lists(ints, min_size=n, max_size=n)] * 4,
        st.dictionaries(st.integers(0, 6), st.builds(Options, st.integers(0, 3), metadata=st.binary(max_size=30))),
    )
)  # fmt: skip


@given(sections)
def test_sections_go_there_and_back_and_their_shape_is_a_prefix(section: Section) -> None:
    data = encode(section)
    assert decode_section(data) == section


def test_answers_and_events_go_there_and_back() -> None:
    answers = Answers(b"\x00\x01", [7, 0], [10_000, 0], {1: [3, 500, 0]})
    assert decode_answers(encode(answers)) == answers
    events = [Event(1, 1, 3, 2, 2, "a", 9, 0, 1, 3, "deploy")]
    assert decode_events(encode(events)) == events


DECODERS = (
    decode_section, decode_frame, decode_answers, decode_events, messages.decode_hello,
    messages.decode_welcome, messages.decode_refusal, messages.decode_request, messages.decode_table,
    messages.decode_roles, messages.decode_meta,
)  # fmt: skip


@given(st.binary(max_size=200))
@example(encode([1, 1, b"", [], ["x"]]).replace(b"\xa1x", b"\xa1\xff"))  # a name that is no UTF-8
@example(encode([1, 1, b"", [], ["xyz"]]).replace(b"\xa3xyz", b"\xa3\xed\xa0\x80"))  # a lone surrogate
@example(b"\x9f" + encode(1) * 2 + b"\x91" * 100_000)  # nested deeper than any stack
@example(b"\xdd\xff\xff\xff\xff")  # announces more than there is
def test_decoders_raise_nothing_but_decode_errors(data: bytes) -> None:
    for decode in DECODERS:
        try:
            decode(data)
        except msgspec.DecodeError:
            pass


def test_text_that_is_no_utf8_and_nesting_without_end_are_decode_errors() -> None:
    section = Section(1, 1, b"\x03", [1], ["x"], [0], [0], [0], [0], {})
    with pytest.raises(msgspec.DecodeError):
        decode_section(encode(section).replace(b"\xa1x", b"\xa1\xff"))
    shape = encode(section)[:-1]
    deeper = b"\x9b" + shape[1:] + b"\x80" + b"\x91" * 100_000 + b"\xc0"
    for decode in (decode_section,):
        with pytest.raises(msgspec.DecodeError):
            decode(deeper)


def test_a_section_skips_nothing_unread() -> None:
    """What is skipped is skipped by recursion, whose depth may differ from replica to replica."""
    section = encode(Section(1, 1, b"", [], [], [], [], [], [], {}))
    with pytest.raises(msgspec.ValidationError):
        decode_section(b"\x9b" + section[1:] + encode([[]]))
