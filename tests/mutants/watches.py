"""Bugs of watches: changes that are missed, above all where one leader follows another, and those of others told."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from holdfast.core import watch as sdk
from holdfast.wire.frames import LockView
from holdfast_router import watches as router
from holdfast_shard.node import watches as node

from .mutant import Mutant, Promise, Selection, patch

_ROUTER = Selection(("tests/router/test_watches.py",))
_NODE = Selection(("tests/node/test_watches.py",))
_SDK = Selection(("tests/sdk/core/test_watching.py", "tests/sdk/test_watch.py"))


# A router.


def _leaves_watches_where_they_are(self: router.Watches, group: int, node: int) -> None:
    """A new leader is asked for new watches only."""
    self._leaders[group] = node


def _stands_at_once(self: router.Watches, watch: router._Watch) -> None:
    """What changed before the new leader had heard of the watch is passed over."""
    stood = watch.stands
    _PLACE(self, watch)
    watch.stands = stood


def _believes_any_node(self: router.Watches, node: int, request: int, body: bytes) -> None:
    watch = self._by_request.get(request)
    _HEARD(self, watch.node if watch is not None else node, request, body)


def _forgets_who_did_not_read(self: router.Watches) -> None:
    self._timer = None
    self._lapsed.clear()


_PLACE, _HEARD = router.Watches._place, router.Watches.heard


# A leader.


def _tells_all_tenants(self: node.Watches, tenant: int, name: str) -> Iterator[node._Watch]:
    for number in {key[0] for key in self._names} | set(self._prefixes):
        yield from _WATCHING(self, number, name)


def _passes_over_the_deaf(self: node.Watches, listens: Callable[[object], bool]) -> None:
    """Who does not listen now is told nothing of it later either."""
    _LOOK(self, listens)
    for watch in [watch for watch in self._due if not listens(watch.caller)]:
        del self._due[watch]


_WATCHING, _LOOK = node.Watches._watching, node.Watches._look


# The SDK.


def _finds_what_was_told_since(self: sdk._Part, views: list[LockView]) -> None:
    for view in views:
        self._see(view)


MUTANTS = (
    Mutant(
        "a new leader not asked for the watches of the one before", Promise.TOLD_OF_CHANGES,
        patch(router.Watches, "led", _leaves_watches_where_they_are), (_ROUTER,),
    ),
    Mutant(
        "a watch goes on at a new leader as if nothing was missed", Promise.TOLD_OF_CHANGES,
        patch(router.Watches, "_place", _stands_at_once), (_ROUTER,),
    ),
    Mutant(
        "a leader of the past heard of what is watched", Promise.TOLD_OF_CHANGES,
        patch(router.Watches, "heard", _believes_any_node), (_ROUTER,),
    ),
    Mutant(
        "a watcher that did not read is not told to read again", Promise.TOLD_OF_CHANGES,
        patch(router.Watches, "_catch_up", _forgets_who_did_not_read), (_ROUTER,),
    ),
    Mutant(
        "watches outlive the office", Promise.TOLD_OF_CHANGES,
        patch(node.Watches, "office", lambda self, term: None), (_NODE,),
    ),
    Mutant(
        "a router that did not listen is not told to read again", Promise.TOLD_OF_CHANGES,
        patch(node.Watches, "_look", _passes_over_the_deaf), (_NODE,),
    ),
    Mutant(
        "a watcher hears of other tenants' locks", Promise.APART, patch(node.Watches, "_watching", _tells_all_tenants),
        (_NODE,),
    ),
    Mutant(
        "what may have been missed is not read", Promise.TOLD_OF_CHANGES,
        patch(sdk._Part, "_read", lambda self: None), (_SDK,),
    ),
    Mutant(
        "a reading counts for more than what was told since", Promise.TOLD_OF_CHANGES,
        patch(sdk._Part, "_found", _finds_what_was_told_since), (_SDK,),
    ),
)  # fmt: skip
