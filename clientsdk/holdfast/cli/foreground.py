"""Runs a command the way a shell runs one in the foreground.

The command gets a process group of its own, so that what it starts can be stopped with it, and the terminal, so that
Ctrl-C and Ctrl-Z are its own. It does not outlive this process (:class:`holdfast.cluster.Guardian`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence

from holdfast.cluster import Guardian

from .exits import Exit, Stop, exit_of_status

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


class _Terminal:
    """The controlling terminal, if standard input is one and we were started in its foreground."""

    def __init__(self) -> None:
        self.present = False
        with contextlib.suppress(OSError):
            self.present = os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()

    def held_by(self, group: int) -> bool:
        try:
            return self.present and os.tcgetpgrp(0) == group
        except OSError:
            return False

    def hand_over(self, giver: int, taker: int) -> None:
        """Nothing happens when ``giver`` does not have it: it is not ours to take from a third group."""
        if self.held_by(giver):
            self.set_owner(taker)

    def set_owner(self, group: int) -> None:
        if not self.present:
            return
        # A group in the background that sets the foreground group is stopped by SIGTTOU unless it blocks it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])
        try:
            with contextlib.suppress(OSError):
                os.tcsetpgrp(0, group)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Foreground:
    """Create and :meth:`run` inside a running loop, once. Signals are the command's from the creation on.

    ``may_resume`` is asked when the user brings the stopped command back: if it says no, the command is killed before
    it runs on. ``grace_s``: how long the command may take to end after TERM or HUP was forwarded to it; None for ever.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        guardian: Guardian,
        *,
        may_resume: Callable[[], bool] = lambda: True,
        grace_s: float | None = None,
    ) -> None:
        self._command = list(command)
        self._environment = {**os.environ, **environment}
        self._guardian = guardian
        self._may_resume = may_resume
        self._grace_s = grace_s
        self._loop = asyncio.get_running_loop()
        self._terminal = _Terminal()
        self._process: subprocess.Popen[bytes] | None = None
        self._doomed = False
        self._watcher: threading.Thread | None = None
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._early: list[int] = []
        """Signals that came before the command ran."""
        handle(self._loop, FORWARDED, self._forward)

    async def run(self) -> int:
        """Until the command ends; its exit code as a shell reports it. Raises :class:`Stop` when it cannot be run."""
        try:
            self._start()
            for number in self._early:
                self._forward(number)
            try:
                await asyncio.shield(self._ended)
            finally:
                code = self._finish()
        finally:
            for number in FORWARDED:
                self._loop.remove_signal_handler(number)
        return code

    def signal(self, number: int) -> None:
        """Send to the command and all it started, as long as it runs."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def doomed(self) -> None:
        """When the command ends, what it started ends with it."""
        self._doomed = True

    def _start(self) -> None:
        try:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                process_group=0,
                preexec_fn=self._prepare,  # noqa: PLW1509 - system calls only, no lock is taken
            )
        except OSError as error:
            self._terminal.set_owner(os.getpgrp())
            if isinstance(error, FileNotFoundError):
                raise Stop(Exit.NOT_FOUND, f"{self._command[0]}: command not found") from None
            raise Stop(Exit.CANNOT_RUN, f"{self._command[0]}: {error.strerror}") from None
        self._watcher = threading.Thread(target=self._watch, args=(self._process.pid,), daemon=True)
        self._watcher.start()

    def _prepare(self) -> None:
        """In the new process, before its program runs: nothing of it happens unguarded or without the terminal."""
        self._guardian.enlist()
        self._terminal.set_owner(os.getpid())

    def _forward(self, number: int) -> None:
        if self._process is None:
            self._early.append(number)
            return
        self.signal(number)
        if self._grace_s is not None and number in (signal.SIGTERM, signal.SIGHUP):
            self._loop.call_later(self._grace_s, self.signal, signal.SIGKILL)

    def _watch(self, pid: int) -> None:
        # WNOWAIT: the command is reaped by the loop, after the guardian has been told to forget its number.
        while True:
            found = os.waitid(os.P_PID, pid, os.WEXITED | os.WSTOPPED | os.WNOWAIT)
            if found is None or found.si_code != os.CLD_STOPPED:
                break
            with contextlib.suppress(ChildProcessError):
                # It may have been continued, or killed, since: then there is nothing to take note of.
                os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG)
            self._loop.call_soon_threadsafe(self._stopped, found.si_status)
        self._loop.call_soon_threadsafe(self._ended.set_result, None)

    def _stopped(self, number: int) -> None:
        assert self._process is not None
        us, command = os.getpgrp(), self._process.pid
        if not self._terminal.present:
            return
        wants_terminal = number in (signal.SIGTTIN, signal.SIGTTOU)
        if not (wants_terminal and (self._terminal.held_by(us) or self._terminal.held_by(command))):
            # Ctrl-Z, or a wish for the terminal while in the background: stop too, as the shell expects of a job.
            # It goes on here after 'fg' or 'bg'.
            self._terminal.hand_over(command, us)
            os.kill(os.getpid(), signal.SIGSTOP)
            if not self._may_resume():
                self.signal(signal.SIGKILL)
                return
        self._terminal.hand_over(us, command)
        self.signal(signal.SIGCONT)

    def _finish(self) -> int:
        assert self._process is not None
        assert self._watcher is not None
        if not self._ended.done() or self._doomed:
            # Not done: cancelled, and whoever cancels wants the command gone. Doomed: its leader has ended, but keeps
            # the number of the group until it is reaped below.
            self.signal(signal.SIGKILL)
        self._watcher.join()
        self._guardian.drop(self._process.pid)
        code = exit_of_status(self._process.wait())
        self._terminal.hand_over(self._process.pid, os.getpgrp())
        return code


def handle(loop: asyncio.AbstractEventLoop, numbers: Sequence[int], action: Callable[[int], None]) -> None:
    """Handle signals, except those that whoever started us chose to ignore (``nohup``)."""
    for number in numbers:
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, action, number)
