"""``python -m holdfast_router``: run a router."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import uvloop

from holdfast.wire.addresses import check_plaintext, split_address
from holdfast.wire.collecting import settle_collector
from holdfast.wire.tls import Certificates, TlsFiles, TlsUnusable

from . import compiled

compiled.prefer()  # before anything imports what may be compiled
# ruff: noqa: E402
from .admission.redis_buckets import RedisUrlUnusable
from .directory import META_SILENCE_S
from .formation import FormationUnreadable, read_formation
from .logs import configure_logs
from .process import Router, listening_line

EXIT_USAGE, EXIT_DATA, EXIT_PORT = 2, 3, 5


class _NoSuchHost(Exception):
    pass


class _PortTaken(Exception):
    pass


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m holdfast_router", description=__doc__)
    parser.add_argument("--formation", type=Path, required=True, help="the cluster's formation.json")
    parser.add_argument("--listen", default="127.0.0.1:8420", help="HOST:PORT for SDKs")
    parser.add_argument("--http", metavar="HOST:PORT", help="for HTTP; default: the port after --listen's; '' for off")
    parser.add_argument(
        "--cors-origin", action="append", default=[], metavar="ORIGIN", help="of pages that may use HTTP; repeatable"
    )
    parser.add_argument("--grpc", metavar="HOST:PORT", help="for gRPC; default: two after --listen's port; '' for off")
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate chain, PEM; with --tls-key")
    parser.add_argument("--tls-key", type=Path, metavar="FILE")
    parser.add_argument("--tls-client-ca", type=Path, metavar="FILE", help="SDKs have to show a certificate of it")
    parser.add_argument("--tls-ca", type=Path, metavar="FILE", help="authority of the nodes: links to them use TLS")
    parser.add_argument("--tls-peer-cert", type=Path, metavar="FILE", help="to show to nodes, when not --tls-cert")
    parser.add_argument("--tls-peer-key", type=Path, metavar="FILE")
    parser.add_argument("--plaintext", action="store_true", help="no TLS where other machines are concerned")
    parser.add_argument(
        "--meta-silence",
        type=_seconds,
        default=os.environ.get("HOLDFAST_META_SILENCE_S", META_SILENCE_S),
        metavar="SECONDS",
        help="admit nothing new when the meta group was not heard for so long (default: %(default)s)",
    )
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no time above 0 s")
    return value


async def _run(options: argparse.Namespace, tls: _Tls) -> None:
    formation = read_formation(options.formation)
    if tls.nodes is None:
        for node in formation.nodes:
            _check_plaintext(node.address, allowed=options.plaintext)
    redis_url = os.environ.get("HOLDFAST_REDIS_URL", "")
    router = Router(formation, tls.nodes, meta_silence_s=options.meta_silence, redis_url=redis_url)
    where = options.listen
    try:
        await router.listen(*split_address(where, port_min=0), tls.clients)
        if tls.clients is None:
            _check_plaintext(router.address, allowed=options.plaintext)
        if options.http:
            where = options.http
            await router.listen_http(*split_address(where, port_min=0), tls.clients, cors_origins=options.cors_origin)
            if tls.clients is None and router.http is not None:
                _check_plaintext(router.http.address, allowed=options.plaintext)
        if options.grpc:
            where = options.grpc
            secured = tls.clients is not None
            files = TlsFiles(options.tls_cert, options.tls_key, options.tls_client_ca) if secured else None
            if files is None:
                _check_plaintext(where, allowed=options.plaintext)
            await router.listen_grpc(*split_address(where, port_min=0), files)
    except TlsUnusable:
        await router.close()
        raise
    except (socket.gaierror, UnicodeError) as error:
        await router.close()
        raise _NoSuchHost(f"cannot listen on {where}: {error}; give an address of this machine") from None
    except OSError as error:
        await router.close()
        raise _PortTaken(f"cannot listen on {where}: {error.strerror or error}") from None
    settle_collector()
    router.heed_signals()
    print(json.dumps(listening_line(router)), flush=True)
    await router.serve()


@dataclass(frozen=True, slots=True)
class _Tls:
    clients: Certificates | None
    """Of the listener."""
    nodes: Certificates | None
    """Of the links to nodes."""


def _tls(options: argparse.Namespace) -> _Tls:
    """Raises :class:`TlsUnusable`."""
    cert, key = options.tls_cert, options.tls_key
    peer = (options.tls_peer_cert or cert, options.tls_peer_key or key)
    if options.tls_ca is not None and None in peer:
        raise TlsUnusable("--tls-ca needs a certificate to show to nodes: --tls-cert, or --tls-peer-cert")
    return _Tls(
        Certificates(TlsFiles(cert, key, options.tls_client_ca)) if cert is not None else None,
        Certificates(TlsFiles(*peer, options.tls_ca)) if options.tls_ca is not None else None,
    )


def _check_plaintext(address: str, *, allowed: bool) -> None:
    """Raises :class:`TlsUnusable` when something would pass in the clear that was not to."""
    try:
        check_plaintext(address, allowed=allowed)
    except ValueError as error:
        raise TlsUnusable(str(error)) from None


def main() -> int:
    parser = _arguments()
    options = parser.parse_args()
    for cert, key in (("tls_cert", "tls_key"), ("tls_peer_cert", "tls_peer_key")):
        if (getattr(options, cert) is None) != (getattr(options, key) is None):
            parser.error(f"--{cert.replace('_', '-')} and --{key.replace('_', '-')} go together")
    if options.tls_client_ca is not None and options.tls_cert is None:
        parser.error("--tls-client-ca goes with --tls-cert and --tls-key")
    configure_logs()
    try:
        host, port = split_address(options.listen, port_min=0)
        for at, front in enumerate(("http", "grpc"), start=1):
            if getattr(options, front) is None:
                setattr(options, front, f"{host}:{port + at if port else 0}")
            if getattr(options, front):
                split_address(getattr(options, front), port_min=0)
        tls = _tls(options)
    except ValueError as error:
        parser.error(f"argument --listen, --http or --grpc: {error}")
    except TlsUnusable as error:
        parser.error(str(error))
    try:
        uvloop.run(_run(options, tls))
    except FormationUnreadable as error:
        return _fail(EXIT_DATA, error)
    except (_NoSuchHost, TlsUnusable, RedisUrlUnusable) as error:
        return _fail(EXIT_USAGE, error)
    except _PortTaken as error:
        return _fail(EXIT_PORT, error)
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 0
    return 0


def _fail(code: int, error: Exception) -> int:
    print(f"holdfast router: {error}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
