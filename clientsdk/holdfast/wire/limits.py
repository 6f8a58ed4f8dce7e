"""Every limit of the service, by name. Sizes are bytes, times are milliseconds, unless the name says otherwise."""

from __future__ import annotations

from typing import Final

PROTOCOL_VERSION: Final = 1

SLOTS: Final = 4096

NAME_BYTES_MAX: Final = 512
METADATA_BYTES_MAX: Final = 1024
REASON_BYTES_MAX: Final = 256

LOCK_ID_CHARACTERS_MAX: Final = 1024
"""Longer text is no LockID; those that are made have at most some 750."""

SESSION_ID_BYTES: Final = 16
REQUEST_ID_BYTES: Final = 16

TTL_MS_MIN: Final = 100
TTL_MS_MAX: Final = 24 * 3600 * 1000
WAIT_MS_MAX: Final = 24 * 3600 * 1000
LOCK_DELAY_MS_MAX: Final = 60_000
CACHE_TTL_MS_MAX: Final = 1000
"""Longest life of a cached "not held"; bounds what an acquire may have to wait for silent cachers."""

PERMITS_MAX: Final = 1_000_000
REENTRANCY_MAX: Final = 1_000_000

WAITERS_PER_LOCK_MAX: Final = 10_000
HOLDERS_PER_LOCK_MAX: Final = 10_000
LOCKS_PER_SESSION_MAX: Final = 100_000
LEASES_PER_CLIENT_MAX: Final = 1_000_000
ANSWERS_PER_CLIENT_MAX: Final = 4096
"""Unanswered and remembered operations of a client; a client with this many open must wait for its floor to rise."""

CLIENT_IDLE_MS: Final = 600_000
"""How long a client's row outlives its last lease."""
ENDED_REASON_MS: Final = 60_000
"""How long the reason of an ended lease is remembered."""

OPERATIONS_PER_SECTION_MAX: Final = 2048
SECTION_BYTES_MAX: Final = 1 << 20
"""Largest section: what a router accepts from an SDK in one message."""
SECTIONS_PER_FRAME_MAX: Final = 1024
OPERATIONS_PER_FRAME_MAX: Final = 16_384
"""An answer has at most some 300 bytes, a refusal's text included: those of a frame fit one message."""
FRAME_BYTES_MAX: Final = (1 << 20) + (1 << 16)
"""Largest frame a router sends to a node: one full section and its stamps, or many small ones."""
ENTRY_BYTES_MAX: Final = 4 << 20
"""Largest log entry: the frames a leader closes together."""
MESSAGE_BYTES_MAX: Final = 16 << 20
"""Largest message body on any stream; a header that announces more ends the connection."""
HELLO_BYTES_MAX: Final = 4096
"""Largest body of any message to a server that has not accepted the caller's HELLO yet."""
HELLOS_WAITING_MAX: Final = 4096
"""Callers that a router keeps waiting while it does not know its cluster yet."""
CLOSING_S: Final = 5.0
"""How long a closing connection waits for its peer to take what is still to be sent."""

READ_ROWS_PER_FRAME_MAX: Final = 20_000
"""Rows and slots looked at for all reads of a frame. What is beyond is answered ``AGAIN``, a page ends early."""
READ_BYTES_PER_FRAME_MAX: Final = 4 << 20
"""Likewise for what they show. The read that reaches it is answered whole, and no read shows more than 6 MiB."""
HOLDERS_SHOWN_MAX: Final = 256
"""Holders of one lock that an inspector is shown; their number is told."""

KEEPALIVE_IDLE_S: Final = 20
KEEPALIVE_INTERVAL_S: Final = 5
KEEPALIVE_PROBES: Final = 3
"""The kernel's look after silent accepted connections: the first probe, the time between two, and how many are lost
before the peer is taken for vanished."""
UNACKNOWLEDGED_MS_MAX: Final = 30_000
"""How long an accepted connection lives on while the peer's kernel acknowledges nothing of what it was sent."""

LINK_LOOK_S: Final = 1.0
"""How often each end of a link between servers says PING, and looks whether anything was heard since the last look."""
LINK_SILENT_LOOKS: Final = 3
"""Looks in a row without a byte from the peer after which a link is given up: three to four seconds of silence. That is
more than an election takes, and more than a slow sync keeps a server from reading."""
LINK_DIAL_S: Final = 2.0
"""Longest try to connect to a server and to be welcomed by it."""
LINK_RETRY_S_MIN: Final = 0.05
LINK_RETRY_S_MAX: Final = 1.0
"""Pause between two tries: doubled each time, the shortest again after a WELCOME."""
LINK_COMPLAINT_S: Final = 60.0
"""The same reason why there is no link, or a caller refused from the same address, is logged once in this time."""

CONNECTIONS_MAX: Final = 16_384
CONNECTIONS_PER_ADDRESS_MAX: Final = 4_096
"""Connections that a listener keeps, in all and from one address (of IPv6: from one network of 64 bits)."""
HANDSHAKES_MAX: Final = 1_024
HANDSHAKES_PER_ADDRESS_MAX: Final = 256
"""TLS handshakes under way at a listener: each costs more than anything else that a stranger can ask for."""
FAILED_LOGINS_BURST: Final = 30
FAILED_LOGINS_EVERY_S: Final = 2.0
"""Wrong API keys that one address may show in a row, and how soon each is forgiven."""
ADDRESSES_KNOWN_MAX: Final = 65_536
"""Addresses whose failures are remembered."""
UNSENT_BYTES_MAX: Final = 16 << 20
"""What waits for an SDK that does not read; the two largest answers fit. Beyond, its connection ends."""
STALLED_S: Final = 20.0
"""A caller that has taken nothing of what waits for it for so long is disconnected."""
UNFINISHED_S: Final = 30.0
"""A caller that has begun a message has to end it in this time: what came of it is held in memory."""
TLS_HANDSHAKE_S: Final = 5.0
"""Longest TLS handshake of an accepted connection."""
TLS_LOOK_S: Final = 2.0
"""How often a server looks whether its certificate files have changed."""

LIST_PAGE_MAX: Final = 1000

WATCHES_PER_TENANT_MAX: Final = 10_000
"""Watches of one tenant's callers at one router, however many share one name."""
WATCHED_NAMES_MAX: Final = 1_000_000
"""Names that all prefix watches of one client keep in mind, each for itself; a router is one client of each tenant."""
WATCHES_PER_GROUP_MAX: Final = 100_000
"""Different names and prefixes that all routers together watch at a group's leader."""
WATCHED_CHANGES_MAX: Final = 100_000
"""Changed names that a leader remembers until it has told them; beyond, watchers are told to read again."""
HOLDS_PAGE_MAX: Final = 10_000

FREED_PER_ENTRY_MAX: Final = 1000
"""Holds of dead leases freed by one entry; the rest waits for the next."""

TOKEN_MAX: Final = (1 << 53) - 1
"""Tokens fit JSON numbers and SQL BIGINT."""

DEADLINE_MS_MAX: Final = 60_000
"""Longest a router keeps one request under way; waiting for a lock is a ticket, not a request."""

TENANTS_MAX: Final = 10_000
KEYS_MAX: Final = 30_000
"""Of all tenants: with them the whole meta record fits one message. A place is kept for the first key of every tenant
there may be, so that others' second and later ones keep nobody out."""
KEYS_PER_TENANT_MAX: Final = 100
TENANT_ID_CHARS_MAX: Final = 63
DISPLAY_BYTES_MAX: Final = 128
PLAN_BYTES_MAX: Final = 64
KEY_NAME_BYTES_MAX: Final = 64
KEY_PREFIX_BYTES_MAX: Final = 128
WEIGHT_MAX: Final = 1_000
QUOTA_MAX: Final = 1_000_000_000
CHANGE_BYTES_MAX: Final = 8192
"""Largest change of tenants and keys, a note's texts included."""
CHANGES_REMEMBERED_MAX: Final = 4096
"""How many changes back a repeated one is known and answered as it was at first."""
AUDIT_TAIL_MAX: Final = 4096
"""Audit records that can be asked for; every meta node's ``audit.jsonl`` has all that it applied."""
AUDIT_PAGE_MAX: Final = 500
AUDIT_LOOKED_MAX: Final = 1024
"""Audit records that are looked at for one page: what is wanted may be rare, and the meta group answers others, too."""
AUDIT_FILTER_CHARS_MAX: Final = 1024
"""Of each text that audit records are chosen by; the longest that stands there is the name of a lock."""

BUSY_RETRY_MS: Final = 1000
"""When to come again, where something is full of what ends nobody knows when."""
