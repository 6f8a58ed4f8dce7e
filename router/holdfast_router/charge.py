"""What admission has to know of a section, which comes before the section is read whole: refusing costs little."""

from __future__ import annotations

from typing import Final

import msgspec

from holdfast.wire.exempt import EXEMPT, all_exempt
from holdfast.wire.frames import Kind, Options, decoder
from holdfast.wire.limits import OPERATIONS_PER_SECTION_MAX

_END: Final = int(Kind.END)


class _Kinds(msgspec.Struct, array_like=True, gc=False):
    client: int
    floor: int
    kinds: bytes


class _Options(_Kinds, array_like=True, gc=False):
    seqs: msgspec.Raw
    names: msgspec.Raw
    leases: msgspec.Raw
    tokens: msgspec.Raw
    ttls: msgspec.Raw
    waits: msgspec.Raw
    options: dict[int, Options]


_decode_kinds = decoder(_Kinds)
_decode_options = decoder(_Options)


def charge_of(section: bytes, *, vouched: bool) -> tuple[int, bool]:
    """Its operations, and whether all of them are exempt. What cannot be read costs as much as one operation.

    ``vouched``: sessions said by their ids are the sender's own, as another front has seen by what stands for them.
    """
    try:
        kinds = _decode_kinds(section).kinds[:OPERATIONS_PER_SECTION_MAX]
        if vouched or _END not in kinds or kinds.translate(None, EXEMPT):
            return len(kinds) or 1, bool(kinds) and all_exempt(kinds, {}, vouched=vouched)
        return len(kinds), all_exempt(kinds, _decode_options(section).options)
    except msgspec.DecodeError:
        return 1, False
