"""Messages between nodes: msgpack arrays of a fixed schema, tagged by small integers.

Every message names its group and carries its sender's term; the bundle around it carries connection and message number.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]


class _Message(msgspec.Struct, array_like=True, gc=False, forbid_unknown_fields=True):
    group: Count
    term: Count


class Append(_Message, tag=1):
    """Entries `previous_index + 1` onwards, each (term, type byte + payload)."""

    previous_index: Count
    previous_term: Count
    commit: Count
    entries: list[tuple[Count, bytes]]


class Ack(_Message, tag=2):
    """Everything up to `index` is the sender's of `term`, and durable at the follower."""

    index: Count


class Reject(_Message, tag=3):
    """The log does not hold `previous_index` with the leader's term; try from `hint`."""

    previous_index: Count
    hint: Count


class RequestVote(_Message, tag=4):
    last_index: Count
    last_term: Count


class Vote(_Message, tag=5):
    pass


class AskPreVote(_Message, tag=6):
    """Would you vote for me in `term` + 1?"""

    last_index: Count
    last_term: Count


class PreVote(_Message, tag=7):
    """Yes, asked by someone of `asked_term`."""

    asked_term: Count


class TermNotice(_Message, tag=8):
    """A message of a lower term arrived; this is mine."""


class Resigned(_Message, tag=9):
    """The leader of `term` has stepped down by itself; it will commit nothing more in it."""


class TimeoutNow(_Message, tag=10):
    """The leader hands over: start an election at once."""


class SnapshotChunk(_Message, tag=11):
    """Raw bytes of the leader's snapshot from `offset`; `chunk_crc` is zlib.crc32 of `data`."""

    index: Count
    snapshot_term: Count
    size: Count
    crc: Count
    offset: Count
    chunk_crc: Count
    data: bytes


class SnapshotProgress(_Message, tag=12):
    """The follower holds the first `offset` bytes; `resend` asks to go on from there."""

    index: Count
    offset: Count
    resend: bool


class Beat(msgspec.Struct, array_like=True, gc=False, forbid_unknown_fields=True, tag=13):
    """One heartbeat per pair of nodes: (group, term, commit, last index sent) of all groups its sender leads."""

    leads: list[tuple[Count, Count, Count, Count]]


class BeatReply(msgspec.Struct, array_like=True, gc=False, forbid_unknown_fields=True, tag=14):
    """(group, term, durable match) for the groups of a Beat whose leader is followed."""

    follows: list[tuple[Count, Count, Count]]


GroupMessage = (
    Append | Ack | Reject | RequestVote | Vote | AskPreVote | PreVote | TermNotice | Resigned | TimeoutNow
    | SnapshotChunk | SnapshotProgress
)  # fmt: skip
Message = GroupMessage | Beat | BeatReply


class Bundle(msgspec.Struct, array_like=True, gc=False, forbid_unknown_fields=True):
    """What one node sends another at once. `echo` is the receiver's own connection number, 0 while it is unknown."""

    connection: Count
    echo: Count
    number: Count
    messages: list[Message]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Bundle)


def encode(bundle: Bundle) -> bytes:
    return _encoder.encode(bundle)


def decode(message: bytes) -> Bundle:
    """Raises msgspec.DecodeError (which msgspec.ValidationError is)."""
    return _decoder.decode(message)
