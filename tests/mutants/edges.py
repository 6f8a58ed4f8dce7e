"""Bugs where strangers and silent peers are met: keys, clusters, connections."""

from __future__ import annotations

import ssl

import msgspec

from holdfast.wire import tls
from holdfast.wire.crowd import FailedLogins
from holdfast.wire.stream import Connection
from holdfast.wire.tenants import KeyRole, Principal
from holdfast.wire.tls import TlsFiles
from holdfast_router.directory import Directory
from holdfast_shard.node.listener import Listener

from .mutant import Mutant, Promise, Selection, patch

_ABUSE = Selection(("tests/router/test_abuse.py",))
_TLS = Selection(("tests/wire/test_tls.py",))
_CERTIFICATES = Selection(
    (
        "tests/integration/test_certificates.py::test_a_certificate_for_another_name_is_refused_whatever_else_its_owner_knows",
    ),
    children=True,
)
_FRONT = Selection(("tests/router/test_front.py",))
_LINKS = Selection(("tests/wire/test_dialing.py",))
_DIRECTORY = Selection(("tests/router/test_directory.py",))
_NODES = Selection(
    ("tests/node/test_processes.py::test_bad_callers_are_refused_with_the_reason_and_do_no_harm",), children=True
)


def _first_tenant(self: Directory, text: str, address: str = "") -> Principal:
    return msgspec.structs.replace(_AUTHENTICATE(self, text, address), tenant=1)


def _any_name_will_do(files: TlsFiles) -> ssl.SSLContext:
    context = _DIALLING(files)
    context.check_hostname = False
    return context


_AUTHENTICATE, _DIALLING = Directory.authenticate, tls.dialling_context
_NOBODY = Principal(1, "", KeyRole.ADMIN)

MUTANTS = (
    Mutant(
        "an unknown key let in", Promise.APART,
        patch(Directory, "authenticate", lambda self, text, address="": _NOBODY), (_FRONT,),
    ),
    Mutant(
        "every key taken for the first tenant's", Promise.APART, patch(Directory, "authenticate", _first_tenant),
        (_DIRECTORY,),
    ),
    Mutant(
        "a stranger let into the cluster", Promise.APART, patch(Listener, "_check_hello", lambda self, hello: None),
        (_NODES,),
    ),
    Mutant(
        "the name in a caller's certificate not looked at", Promise.APART,
        patch(Listener, "_check_names", lambda self, hello, names: None), (_CERTIFICATES,),
    ),
    Mutant(
        "the name in a server's certificate not looked at", Promise.APART,
        patch(tls, "dialling_context", _any_name_will_do), (_TLS,),
    ),
    Mutant(
        "any number of wrong keys from one address", Promise.COUNTED,
        patch(FailedLogins, "wait_s", lambda self, address: 0.0), (_ABUSE,),
    ),
    Mutant("a silent peer waited for", Promise.ANSWERED, patch(Connection, "watch", lambda self: None), (_LINKS,)),
)  # fmt: skip
