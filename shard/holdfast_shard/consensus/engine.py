"""PySyncObj as a passive core: terms, votes, log matching and the commit rule are its; everything else is replaced.

The only module that touches the library, its name-mangled attributes and its module globals.
"""

from __future__ import annotations

import _socket
import socket
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from pysyncobj import SyncObj, SyncObjConf, syncobj
from pysyncobj.node import Node
from pysyncobj.transport import Transport
from pysyncobj.version import VERSION

from .log import Entry, Log
from .machine_interface import Role, UnsupportedEngine

# The library puts a function that works on Windows alone in its place, on every system, for the whole process.
socket.inet_ntop = _socket.inet_ntop

SUPPORTED: Final = "0.3.17"
FAR: Final = 1e18
"""The library's own election deadline never comes; elections are started by `elections`."""

GLOBALS: Final = ("monotonicTime", "createJournal", "createPoller", "Serializer")
"""Module globals of pysyncobj.syncobj that this module sets."""
OVERRIDDEN: Final = (
    "_SyncObj__applyLogEntries",
    "_SyncObj__sendAppendEntries",
    "_SyncObj__sendNextNodeIdx",
    "_SyncObj__tryLogCompaction",
    "_SyncObj__loadDumpFile",
    "_SyncObj__doApplyCommand",
    "_SyncObj__generateRaftTimeout",
    "_SyncObj__onBecomeLeader",
    "_checkCommandsToApply",
    "_applyCommand",
)
USED_METHODS: Final = ("_SyncObj__onMessageReceived", "_SyncObj__setCurrentTerm", "_SyncObj__setState", "_onTick")
USED_ATTRIBUTES: Final = (
    "_SyncObj__raftState",
    "_SyncObj__raftCurrentTerm",
    "_SyncObj__votedForNodeId",
    "_SyncObj__raftLeader",
    "_SyncObj__raftElectionDeadline",
    "_SyncObj__raftCommitIndex",
    "_SyncObj__raftLastApplied",
    "_SyncObj__raftMatchIndex",
    "_SyncObj__needLoadDumpFile",
)


def require_supported(version: str = VERSION) -> None:
    """Raises UnsupportedEngine unless the installed library is the one whose internals were audited."""
    if version != SUPPORTED:
        raise UnsupportedEngine(f"pysyncobj {SUPPORTED} is required, {version} is installed")


class _Clock:
    """The time the library reads; set before every call into it, because all replicas of a process share it."""

    now = 0.0


class _NoPoller:
    def poll(self, timeout: float) -> None:
        pass


class _NoSerializer:
    """Snapshots are ours; the library never dumps, loads, sends or installs one."""

    def __init__(self, *_: object) -> None:
        pass


def _set_library_globals() -> None:
    syncobj.monotonicTime = lambda: _Clock.now
    syncobj.createJournal = lambda log: log
    syncobj.createPoller = lambda _: _NoPoller()
    syncobj.Serializer = _NoSerializer


class PeerNode(Node):  # type: ignore[misc]
    """A node by its number. Its hash is the number, so that sets of nodes iterate alike in every process."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self._number = number

    def __hash__(self) -> int:
        return self._number

    def __str__(self) -> str:
        return str(self._number)


class Owner(Protocol):
    """What the engine reports, at once and inside the call that causes it."""

    def vote_requests(self, peer: int, term: int, last_index: int, last_term: int) -> None: ...
    def vote_given(self, peer: int, term: int) -> None: ...
    def role_changed(self, old: Role, new: Role) -> None: ...
    def took_office(self) -> None: ...
    def matched(self, peer: int, index: int) -> None: ...


class _OwnerTransport(Transport):  # type: ignore[misc]
    """Turns what is left of the library's sending into calls of the owner."""

    def __init__(self, owner: Owner) -> None:
        super().__init__(None, None, ())
        self._owner = owner

    def send(self, node: PeerNode, message: dict[str, Any]) -> bool:
        kind = message["type"]
        if kind == "request_vote":
            self._owner.vote_requests(node.id, message["term"], message["last_log_index"], message["last_log_term"])
        elif kind == "response_vote":
            self._owner.vote_given(node.id, message["term"])
        else:
            raise AssertionError(f"the library sends no {kind}")
        return True

    def destroy(self) -> None:
        pass


_ROLES: Final = (Role.FOLLOWER, Role.CANDIDATE, Role.LEADER)


class Engine(SyncObj):  # type: ignore[misc]
    """One replica's Raft core. `now` is seconds on the caller's clock."""

    def __init__(self, me: int, members: Iterable[int], log: Log, owner: Owner, quorum_s: float, now: float) -> None:
        require_supported()
        _set_library_globals()
        _Clock.now = now
        self._owner = owner
        self._log = log
        self._nodes = {number: PeerNode(number) for number in sorted(members)}
        transport = _OwnerTransport(owner)
        super().__init__(
            self._nodes[me],
            [node for number, node in self._nodes.items() if number != me],
            _configuration(log, quorum_s, self._on_state),
            transport=transport,
        )
        self._SyncObj__needLoadDumpFile = False
        self._SyncObj__raftLastApplied = log.commit_index
        for node in self._nodes.values():
            if node.id != me:
                # Who is connected is the transport's business; the library only asks whether anyone is.
                transport._onNodeConnected(node)

    def _on_state(self, old: int, new: int) -> None:
        self._owner.role_changed(_ROLES[old], _ROLES[new])

    # What the owner asks.

    @property
    def role(self) -> Role:
        return _ROLES[self._SyncObj__raftState]

    @property
    def leading(self) -> bool:
        return bool(self._SyncObj__raftState == 2)

    @property
    def term(self) -> int:
        return int(self._SyncObj__raftCurrentTerm)

    @property
    def leader(self) -> int | None:
        node = self._SyncObj__raftLeader
        return None if node is None else int(node.id)

    @property
    def commit_index(self) -> int:
        return int(self._SyncObj__raftCommitIndex)

    @property
    def applied_index(self) -> int:
        return int(self._SyncObj__raftLastApplied)

    @applied_index.setter
    def applied_index(self, index: int) -> None:
        self._SyncObj__raftLastApplied = index

    # What the owner makes it do.

    def tick(self, now: float) -> bool:
        """Commit what a majority holds; step down without one. Returns whether it leads."""
        _Clock.now = now
        self._onTick(0)
        return self.leading

    def campaign(self, now: float) -> None:
        """Take the next term and ask for votes."""
        _Clock.now = now
        self._SyncObj__raftElectionDeadline = -FAR
        self._onTick(0)

    def take_term(self, term: int) -> None:
        assert term > self.term
        self._SyncObj__setCurrentTerm(term, None)
        self._SyncObj__setState(0)
        self._SyncObj__raftLeader = None

    def resign(self) -> None:
        self._SyncObj__setState(0)
        self._SyncObj__raftLeader = None

    def forget_leader(self) -> None:
        assert not self.leading
        self._SyncObj__raftLeader = None

    def vote_requested(self, peer: int, term: int, last_index: int, last_term: int, now: float) -> None:
        message = {"type": "request_vote", "term": term, "last_log_index": last_index, "last_log_term": last_term}
        self._pass(peer, message, now)

    def voted(self, peer: int, term: int, now: float) -> None:
        """The caller sees to it that a voter counts once per term."""
        self._pass(peer, {"type": "response_vote", "term": term}, now)

    def follow(self, peer: int, term: int, commit: int, now: float) -> None:
        """A leader was heard; `commit` must not exceed what this log has been matched up to."""
        self._pass(peer, {"type": "append_entries", "term": term, "commit_index": commit}, now)

    def append(
        self, peer: int, term: int, commit: int, previous: tuple[int, int], entries: list[Entry], now: float
    ) -> None:
        """Append after `previous` = (index, term), which the log holds; what conflicts with `entries` goes."""
        message = {
            "type": "append_entries",
            "term": term,
            "commit_index": commit,
            "prevLogIdx": previous[0],
            "prevLogTerm": previous[1],
            "entries": entries,
        }
        self._pass(peer, message, now)

    def acknowledged(self, peer: int, index: int, now: float) -> None:
        """The follower holds the log up to `index`; the caller has cut that to what is durable here."""
        self._pass(
            peer,
            {"type": "next_node_idx", "next_node_idx": index + 1, "reset": False, "success": index > 0},
            now,
        )

    def counted(self, peer: int) -> int:
        """Up to where the commit rule counts this follower."""
        return int(self._SyncObj__raftMatchIndex.get(self._nodes[peer], 0))

    def installed(self, index: int) -> None:
        assert index > self.commit_index
        self._SyncObj__raftCommitIndex = index
        self._SyncObj__raftLastApplied = index

    def _pass(self, peer: int, message: dict[str, Any], now: float) -> None:
        _Clock.now = now
        self._SyncObj__onMessageReceived(self._nodes[peer], message)

    # Parts of the library that are replaced.

    def _SyncObj__onBecomeLeader(self) -> None:  # noqa: N802
        SyncObj._SyncObj__onBecomeLeader(self)
        self._owner.took_office()

    def _SyncObj__sendNextNodeIdx(  # noqa: N802
        self,
        node: PeerNode,
        reset: bool = False,
        nextNodeIdx: int | None = None,  # noqa: N803
        success: bool = False,
    ) -> None:
        assert success, "mismatches are answered before the library sees them"
        assert nextNodeIdx is not None
        self._owner.matched(node.id, nextNodeIdx - 1)

    def _SyncObj__generateRaftTimeout(self) -> float:  # noqa: N802
        return FAR

    def _SyncObj__applyLogEntries(self) -> bool:  # noqa: N802
        return False

    def _SyncObj__sendAppendEntries(self) -> None:  # noqa: N802
        pass

    def _SyncObj__tryLogCompaction(self) -> None:  # noqa: N802
        pass

    def _checkCommandsToApply(self) -> None:  # noqa: N802
        pass

    def _SyncObj__loadDumpFile(self, clearJournal: bool) -> None:  # noqa: N802, N803
        raise AssertionError("snapshots are not the library's")

    def _SyncObj__doApplyCommand(self, command: bytes) -> None:  # noqa: N802
        raise AssertionError("applying is not the library's")

    def _applyCommand(self, *_: object) -> None:  # noqa: N802
        raise AssertionError("nothing is ever queued in the library")


def _configuration(log: Log, quorum_s: float, on_state: Callable[[int, int], None]) -> SyncObjConf:
    return SyncObjConf(
        autoTick=False,
        journalFile=log,
        fullDumpFile=None,
        useFork=False,
        appendEntriesUseBatch=True,
        commandsWaitLeader=False,
        dynamicMembershipChange=False,
        leaderFallbackTimeout=quorum_s,
        appendEntriesPeriod=quorum_s / 8,
        raftMinTimeout=quorum_s,
        raftMaxTimeout=quorum_s * 2,
        connectionTimeout=quorum_s * 2,
        onStateChanged=on_state,
    )
