"""Says in the log when the meta group falls silent, and when it is heard again: once each, for operators."""

from __future__ import annotations

import asyncio
import logging

from .directory import Directory

log = logging.getLogger("holdfast.router")


class SilenceWatch:
    """Looks when silence could have become too long, not at every beat."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._loop = asyncio.get_running_loop()
        self._silent = False
        # Also when nothing is heard from the beginning.
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(directory.silence_s, self._look)

    def heard(self) -> None:
        """The meta group's leader has spoken, whatever it said."""
        if not self._directory.is_fresh:
            return
        if self._silent:
            self._silent = False
            log.info("the meta group is heard again: callers are admitted")
        if self._timer is None:
            self._arm()

    def _arm(self) -> None:
        self._timer = self._loop.call_later(self._directory.fresh_for_s, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._directory.is_fresh:
            self._arm()
        elif not self._silent:
            self._silent = True
            log.warning("the meta group is silent: nothing new is admitted until it is heard")

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
