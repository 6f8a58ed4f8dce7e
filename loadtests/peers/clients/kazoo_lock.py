"""kazoo's Lock: an ephemeral, numbered node below the lock's, and a watch on the one before."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.recipe.lock import Lock
from kazoo.retry import KazooRetry

SESSION_TIMEOUT_S = 20.0
ERRORS = (KazooException, KazooTimeoutError)

logging.getLogger("kazoo").setLevel(logging.ERROR)  # it tells of every connection that a killed server ended


class Kazoo:
    def __init__(self, hosts: str) -> None:
        # It looks for another server at once, not after seconds: the gap of a fail-over is to be the servers'.
        again = KazooRetry(max_tries=-1, delay=0.02, backoff=1, max_jitter=0.0)
        self._client = KazooClient(hosts, timeout=SESSION_TIMEOUT_S, connection_retry=again)
        self._client.start()

    def acquire(self, name: str) -> Lock:
        lock = self._client.Lock(f"/{name.replace('/', '-')}")
        lock.acquire()
        return lock

    def release(self, held: Lock) -> bool:
        released: bool = held.release()
        return released

    def close(self) -> None:
        self._client.stop()
        self._client.close()


def connect(target: Mapping[str, Any], workers: int) -> Kazoo:
    return Kazoo(",".join(f"127.0.0.1:{port}" for port in target["ports"]))
