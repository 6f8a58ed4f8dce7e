"""Exit codes, as documented in ``docs/cli.md``, and the end of a command that cannot go on."""

from __future__ import annotations

import enum

from holdfast.wire.errors import Conflict, Forbidden, HoldfastError, InvalidArgument, NotFound, Unauthenticated


class Exit(enum.IntEnum):
    """Codes follow sysexits.h where it has one. A command that was run passes its own code through."""

    OK = 0
    NO = 1
    """``check``: no longer the holder's. ``break``: nobody held it. What was named does not exist, or does already."""
    USAGE = 64
    UNAVAILABLE = 69
    LOST = 70
    """The lock was lost while the command ran; the command was stopped."""
    NOT_HAD = 75
    DENIED = 77
    CONFIG = 78
    CANNOT_RUN = 126
    NOT_FOUND = 127


class Stop(Exception):
    """Ends the command with a code and, on standard error, one reason."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


def exit_of(error: HoldfastError) -> Exit:
    """The code for an error that reached the end of a command."""
    if isinstance(error, NotFound | Conflict):
        return Exit.NO
    if isinstance(error, Unauthenticated | Forbidden):
        return Exit.DENIED
    if isinstance(error, InvalidArgument):
        return Exit.USAGE
    return Exit.UNAVAILABLE


def exit_of_status(status: int) -> int:
    """A process's return code as a shell reports it: 128 + the signal that killed it."""
    return status if status >= 0 else 128 - status
