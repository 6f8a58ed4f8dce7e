"""Locks from threads, from forked children, and from processes that are stopped past their lease."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

import holdfast
import holdfast.sync
from holdfast.cluster import LocalCluster
from holdfast.errors import AlreadyHeld, ClientClosed, LockLost


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster() as cluster:
        yield cluster


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[holdfast.sync.Client]:
    with holdfast.sync.connect(cluster.url, cluster.api_key) as client:
        yield client


def test_threads_take_turns(client: holdfast.sync.Client) -> None:
    inside, most, tokens = 0, 0, []

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with client.lock("turns", ttl=10) as lock:
                inside += 1
                most = max(most, inside)
                tokens.append(lock.token)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert tokens == sorted(set(tokens))
    assert len(tokens) == 160


def test_the_calls_of_the_mirror(client: holdfast.sync.Client) -> None:
    with client.session(ttl=10) as session, session.lock("s/1"), session.semaphore("s/2", 3, 2):
        assert {info.name for info in client.list("s/")} == {"s/1", "s/2"}
        assert [info.id for info in client.sessions()][:1] == [session.id]
        assert client.try_lock("s/1") is None
        assert client.get("s/1").holders[0].session == session.id
        tried = client.try_lock("s/3", session=session, ttl=10)
        assert tried is not None
        assert client.get("s/3").holders[0].session == session.id
        tried.release()
    lock = client.try_lock("plain")
    assert lock is not None
    assert client.check("plain", lock.token)
    stolen = client.steal("plain", now=True, reason="test")
    assert lock.lost.wait(5)
    with pytest.raises(LockLost):
        assert lock.token
    client.release(stolen.id)
    assert not client.get("plain").holders


def test_blocks_of_threads_end_as_those_of_coroutines_do(client: holdfast.sync.Client) -> None:
    tried = client.try_lock("block")
    assert tried is not None
    with tried, pytest.raises(AlreadyHeld), tried:
        pass
    with client.steal("block"):
        assert client.get("block").held
    with client.lock("block") as lock:
        lock.release()
    with pytest.raises(ZeroDivisionError), client.lock("block", ttl=0.2, renew=False) as lock:
        assert lock.lost.wait(5)
        raise ZeroDivisionError
    with pytest.raises(LockLost), client.lock("block", ttl=0.2, renew=False) as lock:
        assert lock.lost.wait(5)


def test_an_old_loss_is_not_taken_for_one_of_the_next_hold(client: holdfast.sync.Client) -> None:
    lock = client.lock("again", ttl=0.2, renew=False)
    for _ in range(5):
        lock.acquire()
        while lock.held:
            time.sleep(0.0005)
        lock.acquire()
        assert not lock.lost.is_set()
        lock.release()


def test_a_callback_that_would_block_the_clients_thread_is_told(client: holdfast.sync.Client) -> None:
    told: list[BaseException] = []
    done = threading.Event()

    def callback(reason: holdfast.Reason) -> None:
        try:
            client.get("callback")
        except RuntimeError as error:
            told.append(error)
        done.set()

    lock = client.lock("callback", ttl=0.2, renew=False)
    lock.on_lost(callback)
    lock.acquire()
    assert done.wait(5)
    assert len(told) == 1
    # Belief ended a little before the lease does: the name can be had again, if not at this very moment.
    with client.lock("callback", wait=5) as again:
        assert again.held


@pytest.mark.parametrize("attempt", range(10))
def test_calls_that_race_with_close_end(cluster: LocalCluster, attempt: int) -> None:
    client = holdfast.sync.connect(cluster.url, cluster.api_key)
    ended: list[type[BaseException]] = []

    def work() -> None:
        try:
            while True:
                client.get("race")
        except holdfast.HoldfastError as error:
            ended.append(type(error))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.001 * attempt)
    client.close()
    for thread in threads:
        thread.join(5)
    assert ended == [ClientClosed] * 4


def test_a_forked_child_holds_nothing_and_does_not_disturb_its_parent(client: holdfast.sync.Client) -> None:
    with client.lock("forked", ttl=10) as lock:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                client.lock("forked").acquire()
            except ClientClosed:
                code = 0 if not lock.held and lock.remaining() == 0 else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert lock.held
        assert client.check("forked", lock.token)


HOLDER = """
import asyncio, holdfast

async def main():
    async with holdfast.connect() as client:
        lock = client.lock("stopped", ttl=1.0)
        try:
            async with lock:
                token = lock.token
                print("holds", token, flush=True)
                while True:
                    await asyncio.sleep(0.01)
                    if lock.remaining() == 0:
                        break
                print("woke", lock.held, flush=True)
                try:
                    lock.token
                except holdfast.LockLost:
                    print("token raises", flush=True)
                await asyncio.sleep(60)
        except holdfast.LockLost as lost:
            print("lost", lost.reason.name, await client.check("stopped", token), flush=True)

asyncio.run(main())
"""


def test_a_holder_stopped_past_its_lease_wakes_up_to_nothing(
    cluster: LocalCluster, client: holdfast.sync.Client
) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        env={**os.environ, **cluster.environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    token = int(holder.stdout.readline().split()[1])
    holder.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    with client.lock("stopped", ttl=10, wait=20) as lock:
        assert lock.token > token
        assert time.monotonic() - began > 0.5, "a lease that runs is not cut short"
        holder.send_signal(signal.SIGCONT)
        rest = holder.communicate(timeout=20)[0].split("\n")
    assert rest[-2] == "lost EXPIRED False"
    assert rest[:-2] in ([], ["woke False", "token raises"])
    assert holder.returncode == 0
