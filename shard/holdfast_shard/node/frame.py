"""A frame under way at a leader, less the sections that nobody waits for any more.

Those are left out before the frame is proposed or read: what was never proposed was certainly not carried out, so the
router may call it rejected. The log never hears of patience: it gets the bytes of the sections as they came.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

import msgspec

from holdfast.wire.errors import BadMessage, TooLarge
from holdfast.wire.frames import decode_raw_list, decoder, encode
from holdfast.wire.limits import FRAME_BYTES_MAX, SECTIONS_PER_FRAME_MAX
from holdfast.wire.messages import decode_frame_request


@dataclass(frozen=True, slots=True)
class Frame:
    """``caller`` is whatever the driver needs to answer it; None when nobody waits for that."""

    caller: object
    request: int
    body: bytes
    arrived: float = 0.0
    """Seconds, by the clock that turns are told."""
    patience_ms: Sequence[int] = ()
    """How long from then on each section that came is waited for; 0: it is carried out however late. Empty: all are."""
    late_at: float = inf
    """No section of ``body`` is late before."""
    kept: tuple[int, ...] | None = None
    """Positions of the sections of ``body`` among those that came; None for all."""

    def awaited(self, now: float) -> Frame:
        """Without what is late by now."""
        if now < self.late_at:
            return self
        sections: list[msgspec.Raw] = []
        kept: list[int] = []
        before = range(len(self.patience_ms)) if self.kept is None else self.kept
        for at, section in zip(before, decode_raw_list(self.body), strict=True):
            patience_ms = self.patience_ms[at]
            if not patience_ms or now < self.arrived + patience_ms / 1000:
                sections.append(section)
                kept.append(at)
        late_at = self.arrived + _shortest_ms([self.patience_ms[at] for at in kept]) / 1000
        return replace(self, body=encode(sections), late_at=late_at, kept=tuple(kept))

    @property
    def is_void(self) -> bool:
        """Whether nobody waits for any of it."""
        return self.kept == ()

    def complete(self, answers: bytes) -> bytes:
        """The answers to ``body`` as answers to what came: ``DROPPED`` for each section that was left out."""
        if self.kept is None:
            return answers
        told: list[msgspec.Raw | None] = [None] * len(self.patience_ms)
        for at, answer in zip(self.kept, decode_raw_list(answers), strict=True):
            told[at] = answer
        return encode(told)


class _ClientOf(msgspec.Struct, array_like=True, gc=False):
    """The first field of a section; the rest is skipped unread."""

    client: int


class Sender(msgspec.Struct, array_like=True, gc=False):
    """Whose section it is."""

    tenant: int
    slots: bytes
    section: _ClientOf


_decode_senders = decoder(list[Sender])


def read_frame(caller: object, request: int, body: bytes, now: float) -> tuple[Frame, list[Sender]]:
    """What a router sends. Raises ``BadMessage``, ``TooLarge``."""
    try:
        asked = decode_frame_request(body)
        sections, patience_ms = bytes(asked.frame), asked.patience_ms
        if len(sections) > FRAME_BYTES_MAX:
            raise TooLarge(f"a frame has at most {FRAME_BYTES_MAX} bytes")
        senders = _decode_senders(sections)
    except msgspec.DecodeError as error:
        raise BadMessage(f"this is no frame: {error}") from None
    if len(senders) > SECTIONS_PER_FRAME_MAX:
        raise TooLarge(f"a frame has at most {SECTIONS_PER_FRAME_MAX} sections")
    if patience_ms and len(patience_ms) != len(senders):
        raise BadMessage("a frame says how long each of its sections is waited for, or none")
    return Frame(caller, request, sections, now, patience_ms, now + _shortest_ms(patience_ms) / 1000), senders


def _shortest_ms(patience_ms: Sequence[int]) -> float:
    return min(filter(None, patience_ms), default=inf)
