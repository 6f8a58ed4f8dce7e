"""Bugs where strangers and silent peers are met: keys, clusters, connections."""

from __future__ import annotations

import msgspec

from holdfast.wire.stream import Connection
from holdfast.wire.tenants import KeyRole, Principal
from holdfast_router.directory import Directory
from holdfast_shard.node.listener import Listener

from .mutant import Mutant, Promise, Selection, patch

_FRONT = Selection(("tests/router/test_front.py",))
_LINKS = Selection(("tests/wire/test_dialing.py",))
_DIRECTORY = Selection(("tests/router/test_directory.py",))
_NODES = Selection(
    ("tests/node/test_processes.py::test_bad_callers_are_refused_with_the_reason_and_do_no_harm",), children=True
)


def _first_tenant(self: Directory, text: str) -> Principal:
    return msgspec.structs.replace(_AUTHENTICATE(self, text), tenant=1)


_AUTHENTICATE = Directory.authenticate
_NOBODY = Principal(1, "", KeyRole.ADMIN)

MUTANTS = (
    Mutant(
        "an unknown key let in", Promise.APART, patch(Directory, "authenticate", lambda self, text: _NOBODY), (_FRONT,)
    ),
    Mutant(
        "every key taken for the first tenant's", Promise.APART, patch(Directory, "authenticate", _first_tenant),
        (_DIRECTORY,),
    ),
    Mutant(
        "a stranger let into the cluster", Promise.APART, patch(Listener, "_check_hello", lambda self, hello: None),
        (_NODES,),
    ),
    Mutant("a silent peer waited for", Promise.ANSWERED, patch(Connection, "watch", lambda self: None), (_LINKS,)),
)  # fmt: skip
