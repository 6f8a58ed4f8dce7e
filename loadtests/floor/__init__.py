"""The floor: what the bare way of an operation costs in Python, with nothing else in it.

A client's frames go to a router, which splits them by group; the leader of both groups makes one entry of what has come
for a group meanwhile, sends it to two followers and syncs it on its own disk; with the first follower's answer, which
has synced it too, it applies the entry to a dict and answers. Raw asyncio protocols under uvloop, msgspec columns, a
group's leader and the router with two frames of a group under way, a client with four. No safety, no errors, no
elections, no time: something to hold the service against, and not a start for one.
"""

GROUPS = 2
WINDOW = 2
"""Frames of a group under way, from router to leader and from leader to followers."""
