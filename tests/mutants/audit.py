"""The rows of the engine's audit: each says itself how it is disabled; here the bug that returns gets a name."""

from __future__ import annotations

from tests.consensus.regressions import ROWS

from .mutant import Mutant, Selection

_BUGS = {
    "a vote leaves when it is durable": "a vote sent before it is on disk",
    "a leader counts only what is on its disk": "a leader counts itself before its sync",
    "a group of one waits for its disk": "an entry applied and answered before it is durable",
    "a follower claims only what is on its disk": "an entry acknowledged before it is durable",
    "durability goes by write, not by index": "durable by index",
    "a leader whose disk stalls steps down": "a leader whose disk stalls stays",
    "a failed disk ends the replica": "a replica goes on after a failed sync",
    "a cut-off leader steps down": "a leader without a majority stays",
    "a deaf node disturbs nobody": "pre-vote skipped",
    "a lower term is answered": "no answer to a lower term",
    "a vote request is never refused": "votes refused while a leader lives",
    "a broken connection starts the pre-vote": "a leader's broken connection is not noticed",
    "a leader that steps down says so": "a leader resigns without a word",
    "a stall ends nobody's lease": "a stall counts as lease time",
    "an ack keeps its term": "a held ack sent after a new term",
    "a leader counts no ack of an earlier term": "a stale ack accepted",
    "messages of a replaced connection are dropped": "a replaced connection still delivers",
    "repeated messages are dropped": "a repeated message delivered",
    "a voter counts once": "a vote counted twice",
    "commit only what was matched": "a follower commits what was not matched",
    "a shorter append truncates nothing": "truncation without conflict",
    "nothing committed is truncated": "committed entries cut off",
    "pipelined entries are sent once": "pipelined entries sent again with each ack",
    "a returning follower gets a window": "a backlog sent without a window",
    "only plain entries and no-ops are accepted": "membership and version entries accepted",
    "only a leader proposes": "a proposal appended by whoever is asked",
    "applying yields to the loop": "a backlog applied in one go",
    "a damaged snapshot is not acknowledged": "an ack after a failed snapshot load",
    "a damaged chunk is asked for again": "a damaged chunk taken",
    "an older snapshot is not installed": "an older snapshot installed",
    "a tail behind the snapshot survives a restart": "the tail behind a snapshot cleared at start",
    "the commit index starts at the snapshot's": "the commit index starts at 1",
}

MUTANTS = tuple(
    Mutant(
        _BUGS[row.name],
        row.name,
        row.disable,
        (Selection((f"tests/consensus/test_regressions.py::test_promise[{row.name}]",)),),
    )
    for row in ROWS
    if row.disable is not None
)
