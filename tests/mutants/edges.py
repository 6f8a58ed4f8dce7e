"""Bugs where strangers and silent peers are met: keys, clusters, connections."""

from __future__ import annotations

from holdfast.wire.messages import MetaRecord
from holdfast.wire.stream import Connection
from holdfast_router import downstream
from holdfast_shard.node.listener import Listener

from .mutant import Mutant, Promise, Selection, patch

_FRONT = Selection(("tests/router/test_front.py",))
_LINKS = Selection(("tests/wire/test_dialing.py",))
_ROUTERS = Selection(("tests/router/test_process.py",), children=True)
_NODES = Selection(
    ("tests/node/test_processes.py::test_bad_callers_are_refused_with_the_reason_and_do_no_harm",), children=True
)


def _first_tenant(meta: MetaRecord, key: str) -> int:
    _TENANT_OF(meta, key)
    return meta.tenants[0].tenant


_TENANT_OF = downstream._tenant_of

MUTANTS = (
    Mutant("an unknown key let in", Promise.APART, patch(downstream, "_tenant_of", lambda meta, key: 1), (_FRONT,)),
    Mutant(
        "every key taken for the first tenant's", Promise.APART, patch(downstream, "_tenant_of", _first_tenant),
        (_ROUTERS,),
    ),
    Mutant(
        "a stranger let into the cluster", Promise.APART, patch(Listener, "_check_hello", lambda self, hello: None),
        (_NODES,),
    ),
    Mutant("a silent peer waited for", Promise.ANSWERED, patch(Connection, "watch", lambda self: None), (_LINKS,)),
)  # fmt: skip
