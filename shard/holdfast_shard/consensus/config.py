"""Settings of the replicas of one node."""

from __future__ import annotations

from dataclasses import dataclass

from .journal import SEGMENT_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaConfig:
    """Times are seconds, sizes bytes. `validate` names the first setting that cannot work."""

    heartbeat_s: float = 0.1
    """A leader is heard this often by every follower."""
    election_min_s: float = 0.7
    """A leader heard more recently than this is alive; also the check-quorum and disk-stall limit of a leader."""
    election_max_s: float = 1.2
    broken_link_s: float = 0.05
    """Longest random delay between losing the connection to the leader and asking for pre-votes."""
    inflight_bytes: int = 8 << 20
    """Unacknowledged entry bytes per follower; one entry may always be under way."""
    append_bytes: int = 1 << 20
    """Entries of one append message; a single larger entry goes alone."""
    entry_bytes_max: int = 8 << 20
    message_bytes_max: int = 16 << 20
    """A received message larger than this is dropped unread."""
    kept_tail_bytes: int = 64 << 20
    """Entries kept behind a snapshot, so that a short absence needs no snapshot."""
    snapshot_log_bytes: int = 64 << 20
    """A snapshot is due when the log since the last one exceeds this and the last one's size."""
    segment_bytes: int = SEGMENT_BYTES
    """A file of the node's journal is followed by the next when it exceeds this."""
    snapshot_chunk_bytes: int = 256 << 10
    snapshot_window_bytes: int = 1 << 20
    apply_budget_s: float = 0.002
    apply_bytes: int = 256 << 10
    """Entries applied in one go end at this many bytes, or at `apply_budget_s` where a stopwatch is given."""

    def validate(self) -> None:
        """Raises ValueError."""
        if not self.heartbeat_s > 0:
            raise ValueError(f"heartbeat_s must be positive, is {self.heartbeat_s}")
        if self.election_min_s < 3 * self.heartbeat_s:
            raise ValueError(
                f"election_min_s {self.election_min_s} must be at least 3 x heartbeat_s {self.heartbeat_s}"
            )
        if self.election_max_s <= self.election_min_s:
            raise ValueError(f"election_max_s {self.election_max_s} must exceed election_min_s {self.election_min_s}")
        if not 0 < self.broken_link_s < self.election_min_s:
            raise ValueError(f"broken_link_s {self.broken_link_s} must lie between 0 and election_min_s")
        for name in ("inflight_bytes", "append_bytes", "entry_bytes_max", "kept_tail_bytes", "snapshot_log_bytes",
                     "snapshot_chunk_bytes", "snapshot_window_bytes", "apply_bytes"):  # fmt: skip
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, is {getattr(self, name)}")
        if self.message_bytes_max < max(self.entry_bytes_max, self.append_bytes, self.snapshot_chunk_bytes) * 3 // 2:
            raise ValueError(
                f"message_bytes_max {self.message_bytes_max} leaves no room for the largest entry or chunk"
            )
        if self.apply_budget_s <= 0:
            raise ValueError(f"apply_budget_s must be positive, is {self.apply_budget_s}")
