"""The commands put together, and every way a command can end turned into an exit code."""

from __future__ import annotations

import signal
import sys

import typer

from holdfast.wire.errors import HoldfastError

from . import inspect, others, servers, tenants
from .bench import bench
from .certs import certs
from .exits import Exit, Stop, exit_of
from .lock import lock
from .status import status
from .up import up

program = typer.Typer(
    name="holdfast",
    help="Locks as a cloud service: held by a quorum, on disk, under a lease, with a fencing token.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
program.command()(up)
program.command()(lock)
program.command()(status)
program.command()(bench)
program.command()(inspect.get)
program.command(name="list")(inspect.list_)
program.command()(inspect.check)
program.command()(inspect.steal)
program.command(name="break")(inspect.break_)
program.add_typer(tenants.tenant, name="tenant")
program.add_typer(tenants.key, name="key")
program.add_typer(others.locks, name="locks")
program.add_typer(others.sessions, name="sessions")
program.command()(others.audit)
program.add_typer(servers.node, name="node")
program.command()(servers.router)
program.command()(certs)

_USAGE_BY_TYPER = 2


def run_program(arguments: list[str]) -> int:
    try:
        return int(program(arguments, prog_name="holdfast", standalone_mode=False) or 0)
    except typer.Exit as error:
        return error.exit_code
    except typer.TyperException as error:
        show = getattr(error, "show", None)
        show() if show is not None else _say(str(error))
        return Exit.USAGE
    except Stop as error:
        _say(str(error))
        return error.code
    except HoldfastError as error:
        _say(str(error))
        return exit_of(error)
    except (KeyboardInterrupt, typer.Abort):
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # Whoever read our output has gone ('| head'); nothing more can be said, also not at exit.
        sys.stdout = None
        return 128 + signal.SIGPIPE


def _say(text: str) -> None:
    print(f"holdfast: {text}", file=sys.stderr)
