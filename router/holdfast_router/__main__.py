"""``python -m holdfast_router``: run a router."""

from __future__ import annotations

import argparse
import asyncio
import errno
import json
import sys
from pathlib import Path

import uvloop

from .logs import configure_logs
from .process import FormationUnreadable, Router, Tls, listening_line, read_formation

EXIT_USAGE, EXIT_DATA, EXIT_PORT = 2, 3, 5


class _PortTaken(Exception):
    pass


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m holdfast_router", description=__doc__)
    parser.add_argument("--formation", type=Path, required=True, help="the cluster's formation.json")
    parser.add_argument("--listen", default="127.0.0.1:8420", help="HOST:PORT for SDKs")
    parser.add_argument("--tls-cert", type=Path, help="certificate chain, PEM; with --tls-key")
    parser.add_argument("--tls-key", type=Path)
    return parser


async def _run(options: argparse.Namespace) -> None:
    host, _, port = options.listen.rpartition(":")
    tls = Tls(options.tls_cert, options.tls_key) if options.tls_cert is not None else None
    router = Router(read_formation(options.formation))
    try:
        await router.listen(host, int(port), tls)
    except OSError as error:
        await router.close()
        if error.errno in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
            raise _PortTaken(f"cannot listen on {options.listen}: {error.strerror}") from None
        raise
    print(json.dumps(listening_line(router)), flush=True)
    await router.serve()


def main() -> int:
    parser = _arguments()
    options = parser.parse_args()
    host, _, port = options.listen.rpartition(":")
    if not host or not port.isdecimal():
        parser.error(f"--listen takes HOST:PORT, not {options.listen!r}")
    if (options.tls_cert is None) != (options.tls_key is None):
        parser.error("--tls-cert and --tls-key go together")
    configure_logs()
    try:
        uvloop.run(_run(options))
    except FormationUnreadable as error:
        return _fail(EXIT_DATA, error)
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
