"""Cancellations that end what a task was doing, and not the task."""

from __future__ import annotations

import asyncio


def uncancel() -> None:
    """The cancellation that was caught is not to go on."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        task.uncancel()
