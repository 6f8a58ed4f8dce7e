"""The router: spreads sections of operations over shard groups."""
