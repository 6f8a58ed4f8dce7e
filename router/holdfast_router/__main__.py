"""``python -m holdfast_router``: run a router."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import ssl
import sys
from pathlib import Path

import uvloop

from holdfast.wire.addresses import split_address
from holdfast.wire.collecting import settle_collector

from .directory import META_SILENCE_S
from .logs import configure_logs
from .process import FormationUnreadable, Router, TlsUnusable, listening_line, read_formation, tls_context

EXIT_USAGE, EXIT_DATA, EXIT_PORT = 2, 3, 5


class _NoSuchHost(Exception):
    pass


class _PortTaken(Exception):
    pass


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m holdfast_router", description=__doc__)
    parser.add_argument("--formation", type=Path, required=True, help="the cluster's formation.json")
    parser.add_argument("--listen", default="127.0.0.1:8420", help="HOST:PORT for SDKs")
    parser.add_argument("--tls-cert", type=Path, help="certificate chain, PEM; with --tls-key")
    parser.add_argument("--tls-key", type=Path)
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


async def _run(options: argparse.Namespace, tls: ssl.SSLContext | None) -> None:
    router = Router(read_formation(options.formation), meta_silence_s=options.meta_silence)
    try:
        await router.listen(*split_address(options.listen, port_min=0), tls)
    except (socket.gaierror, UnicodeError) as error:
        await router.close()
        raise _NoSuchHost(f"cannot listen on {options.listen}: {error}; give an address of this machine") from None
    except OSError as error:
        await router.close()
        raise _PortTaken(f"cannot listen on {options.listen}: {error.strerror or error}") from None
    settle_collector()
    print(json.dumps(listening_line(router)), flush=True)
    await router.serve()


def main() -> int:
    parser = _arguments()
    options = parser.parse_args()
    if (options.tls_cert is None) != (options.tls_key is None):
        parser.error("--tls-cert and --tls-key go together")
    configure_logs()
    try:
        split_address(options.listen, port_min=0)
        tls = tls_context(options.tls_cert, options.tls_key) if options.tls_cert is not None else None
    except ValueError as error:
        parser.error(f"argument --listen: {error}")
    except TlsUnusable as error:
        parser.error(str(error))
    try:
        uvloop.run(_run(options, tls))
    except FormationUnreadable as error:
        return _fail(EXIT_DATA, error)
    except _NoSuchHost as error:
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
