"""What is never refused for load, and what only looks like it."""

from __future__ import annotations

import pytest

from holdfast.wire.exempt import EXEMPT, all_exempt, is_exempt
from holdfast.wire.frames import Kind, Options

ANOTHERS = Options(session=bytes(16))


@pytest.mark.parametrize("kind", list(Kind))
def test_what_gives_back_or_keeps_is_exempt_and_nothing_else(kind: Kind) -> None:
    named = {Kind.RELEASE, Kind.RENEW, Kind.KEEPALIVE, Kind.CANCEL, Kind.END, Kind.HOLDS, Kind.TICKETS}
    assert is_exempt(kind, None) == all_exempt(bytes([kind]), {}) == (kind in named)
    assert not all_exempt(bytes([*EXEMPT, Kind.ACQUIRE]), {})


def test_only_the_end_of_anothers_session_is_not() -> None:
    for kind in EXEMPT:
        assert is_exempt(kind, Options(reason="done"))
        assert is_exempt(kind, ANOTHERS) == (kind != Kind.END)
        assert is_exempt(kind, ANOTHERS, vouched=True)
    kinds = bytes([Kind.RELEASE, Kind.END])
    assert all_exempt(kinds, {0: ANOTHERS, 1: Options()})
    assert not all_exempt(kinds, {1: ANOTHERS})
    assert all_exempt(kinds, {1: ANOTHERS}, vouched=True)
    assert not all_exempt(bytes([Kind.OPEN]), {0: ANOTHERS}, vouched=True)


@pytest.mark.parametrize("at", [-1, 1, 1 << 62])
def test_options_of_no_operation_count_for_nothing(at: int) -> None:
    assert all_exempt(bytes([Kind.END]), {at: ANOTHERS})
