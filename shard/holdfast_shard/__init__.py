"""The shard node: replicated state machines on Raft groups."""
