"""What the SDK asks before it sends is what the router would say of the section."""

from __future__ import annotations

import itertools
import struct

import pytest

from holdfast.wire.errors import Forbidden
from holdfast.wire.frames import FIRST_READ, Kind, Options, Section, encode
from holdfast.wire.limits import SLOTS
from holdfast.wire.messages import Msg, SlotTable
from holdfast.wire.rights import why_not
from holdfast.wire.tenants import KeyRole, Principal
from holdfast_router import stamping
from holdfast_router.stamping import Stamper

KINDS = stamping._ALLOWED_WRITES + stamping._ALLOWED_READS
OPTIONS = (None, Options(now=True), Options(session=bytes(16)), Options(steal=True))
STAMPER = Stamper(SlotTable(1, struct.pack("<H", 1) * SLOTS))


@pytest.mark.parametrize("role", list(KeyRole))
@pytest.mark.parametrize("prefix", ["", "orders/"])
def test_sdk_and_router_agree_on_every_operation(role: KeyRole, prefix: str) -> None:
    principal = Principal(1, "key", role, prefix)
    for kind, name, options in itertools.product(KINDS, ("", "orders/", "orders/1", "order"), OPTIONS):
        section = Section(1, 1, bytes([kind]), [1], [name], [0], [0], [0], [0], {0: options} if options else {})
        try:
            STAMPER.stamp(principal, 1, Msg.READ if kind >= FIRST_READ else Msg.OPS, encode(section))
            refused = False
        except Forbidden:
            refused = True
        assert bool(why_not(role, prefix, kind, name, options)) == refused, (kind, name, options)


def test_a_role_of_a_newer_release_is_left_to_the_router() -> None:
    assert not why_not("curator", "", Kind.FORCE, "a", None)
