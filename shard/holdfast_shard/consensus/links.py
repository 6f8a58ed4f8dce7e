"""Connections between nodes: what is stale or repeated is dropped, whatever delivers it.

Replaces the library's transport. Each side numbers its own connections and its messages on them; a message counts only
if it echoes the receiver's present connection number and has a higher message number than any before it.
"""

from __future__ import annotations

import random
from typing import Final

from .messages import Append, Bundle, Message, SnapshotChunk, encode

REPLACES: Final = ("_SyncObj__transport", "_SyncObj__onNodeConnected", "_SyncObj__connectedNodes")

BUNDLE_BYTES: Final = 1 << 20
"""A bundle is closed when the entries and chunks in it exceed this."""

CONNECTIONS_MAX: Final = 64
"""Connection numbers that a peer may claim within one connection of ours; one is right, the rest are late greetings."""


class Link:
    """One peer node. Invariant: messages wait in `outbox` only while connected; they die with the connection."""

    def __init__(self, peer: int, rng: random.Random) -> None:
        self.peer = peer
        self._rng = rng
        self.up = False
        self.mine = 0
        self._theirs = 0
        self._sent = 0
        self._seen: dict[int, int] = {}
        """Highest message number per connection number of theirs, since this connection began."""
        self._greet = False
        self.outbox: list[Message] = []

    @property
    def established(self) -> bool:
        """Both sides know each other's connection number."""
        return self.up and self._theirs != 0

    @property
    def speaks(self) -> bool:
        """Whether there is something to take."""
        return bool(self.outbox) or self._greet

    def connected(self) -> None:
        self.up = True
        self.mine = self._rng.getrandbits(60) | 1
        self._theirs = 0
        self._sent = 0
        self._seen = {}
        self._greet = True
        self.outbox.clear()

    def disconnected(self) -> None:
        self.up = False
        self._theirs = 0
        self._greet = False
        self.outbox.clear()

    def greet(self) -> None:
        """Say our connection number again: the other side does not seem to know it."""
        self._greet = self.up

    def accept(self, bundle: Bundle) -> bool:
        """Whether the bundle is of this very connection, and new."""
        if not self.up:
            return False
        if bundle.connection != self._theirs and bundle.echo in (0, self.mine) and self.is_new(bundle):
            self._theirs = bundle.connection
            self._greet = True
        if not self.is_current(bundle) or not self.is_new(bundle):
            return False
        self._seen[bundle.connection] = bundle.number
        return True

    def is_current(self, bundle: Bundle) -> bool:
        if bundle.echo == self.mine and bundle.connection == self._theirs:
            return True
        self._greet = True
        return False

    def is_new(self, bundle: Bundle) -> bool:
        return bundle.number > self._seen.get(bundle.connection, 0) and len(self._seen) < CONNECTIONS_MAX

    def take(self) -> list[bytes]:
        """The bundles that leave now."""
        if self._theirs == 0:
            if not self._greet:
                return []
            self._greet = False
            self._sent += 1
            return [encode(Bundle(self.mine, 0, self._sent, []))]
        if not self.outbox and not self._greet:
            return []
        self._greet = False
        bundles = []
        for messages in _parts(self.outbox):
            self._sent += 1
            bundles.append(encode(Bundle(self.mine, self._theirs, self._sent, messages)))
        self.outbox = []
        return bundles


def _parts(outbox: list[Message]) -> list[list[Message]]:
    parts: list[list[Message]] = [[]]
    size = 0
    for message in outbox:
        if type(message) is Append:
            size += sum(len(command) for _, command in message.entries)
        elif type(message) is SnapshotChunk:
            size += len(message.data)
        if size > BUNDLE_BYTES and parts[-1]:
            parts.append([])
            size = 0
        parts[-1].append(message)
    return parts
