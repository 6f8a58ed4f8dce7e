"""The commands as a user types them: what they print, and their exit codes (``docs/cli.md``)."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import subprocess
import time
from pathlib import Path

import pytest

import holdfast as sdk
from holdfast.clock import boottime_ms
from holdfast.cluster import LocalCluster, Shape

from ..cli.processes import gone, wait_until
from .running import HOLDFAST, environment_in, holdfast


@pytest.fixture
def name() -> str:
    return f"test/{secrets.token_hex(4)}"


async def run(*arguments: str, settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A command while the event loop of the test, and with it the test's own client, goes on."""
    return await asyncio.to_thread(holdfast, *arguments, environment=settings)


def started(command: list[str], settings: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [HOLDFAST, *command], env=settings, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


# lock


def test_the_second_token_is_larger(settings: dict[str, str], name: str) -> None:
    first, second = (
        holdfast("lock", name, "--", "sh", "-c", "echo $HOLDFAST_LOCK_TOKEN", environment=settings) for _ in range(2)
    )
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert int(first.stdout) < int(second.stdout)


def test_the_command_knows_its_lock_and_its_code_is_passed_on(settings: dict[str, str], name: str) -> None:
    script = f'echo $HOLDFAST_LOCK_NAME; {HOLDFAST} check "$HOLDFAST_LOCK_ID" && exit 7'
    done = holdfast("lock", name, "--", "sh", "-c", script, environment=settings)
    assert (done.returncode, done.stdout) == (7, f"{name}\n"), done.stderr


async def test_a_lock_that_is_not_had_in_time(settings: dict[str, str], name: str, client: sdk.Client) -> None:
    async with client.lock(name):
        began = time.monotonic()
        done = await run("lock", name, "--wait", "200ms", "--", "echo", "ran", settings=settings)
        assert (done.returncode, done.stdout) == (75, "")
        assert time.monotonic() - began > 0.2
        assert (await run("lock", name, "--wait", "0", "--", "true", settings=settings)).returncode == 75
        assert (await client.get(name)).waiters == 0


async def test_shared_locks_are_held_together(settings: dict[str, str], name: str, client: sdk.Client) -> None:
    async with client.lock(name, shared=True):
        assert (await run("lock", name, "--shared", "--wait", "0", "--", "true", settings=settings)).returncode == 0
        assert (await run("lock", name, "--wait", "0", "--", "true", settings=settings)).returncode == 75


async def test_a_lock_taken_away_stops_the_command(settings: dict[str, str], name: str, client: sdk.Client) -> None:
    running = asyncio.create_task(run("lock", name, "--", "sleep", "60", settings=settings))
    while not (await client.get(name)).held:
        await asyncio.sleep(0.02)
    await client.force_release(name, reason="a test")
    done = await running
    assert done.returncode == 70
    assert "forced" in done.stderr


def test_term_reaches_the_command_and_the_lock_is_free(settings: dict[str, str], name: str, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    script = f"trap 'exit 9' TERM; touch {ready}; while :; do sleep 0.02; done"
    with started(["lock", name, "--", "sh", "-c", script], settings) as process:
        wait_until(ready.exists, "the command to run")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 9
    assert holdfast("lock", name, "--wait", "0", "--", "true", environment=settings).returncode == 0


async def test_a_signal_while_waiting_gives_up_the_place(
    settings: dict[str, str], name: str, client: sdk.Client
) -> None:
    async with client.lock(name):
        with started(["lock", name, "--", "true"], settings) as process:
            while not (await client.get(name)).waiters:
                await asyncio.sleep(0.02)
            process.send_signal(signal.SIGINT)
            assert await asyncio.to_thread(process.wait, 10) == 128 + signal.SIGINT
        while (await client.get(name)).waiters:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_the_command_is_dead_before_another_has_the_lock(
    settings: dict[str, str], name: str, client: sdk.Client, tmp_path: Path, number: int
) -> None:
    """Killed or stopped, the holder cannot renew; what it ran must be gone when the lease ends."""
    pids = tmp_path / "pid"
    script = f"echo $$ > {pids}.part; mv {pids}.part {pids}; trap '' TERM; while :; do sleep 0.02; done"
    with started(["lock", name, "--ttl", "2s", "--", "sh", "-c", script], settings) as process:
        await asyncio.to_thread(wait_until, pids.exists, "the command to run")
        process.send_signal(number)
        async with client.lock(name, wait=20):
            assert gone(int(pids.read_text()))
        process.kill()


def test_a_command_outlives_a_router_that_comes_back(name: str, tmp_path: Path) -> None:
    """Nothing but the network is lost, and for less than a lease: the command does not notice."""
    with LocalCluster(shape=Shape(1, 1, 1)) as cluster:
        settings = {**os.environ, **cluster.environment}
        ready = tmp_path / "ready"
        script = f"touch {ready}; sleep 3; exit 5"
        with started(["lock", name, "--ttl", "4s", "--", "sh", "-c", script], settings) as process:
            wait_until(ready.exists, "the command to run")
            cluster.router.kill()
            time.sleep(0.5)
            cluster.restart_router()
            assert process.wait(20) == 5


def test_a_lock_that_cannot_be_renewed_stops_the_command_in_time(name: str, tmp_path: Path) -> None:
    with LocalCluster(shape=Shape(1, 1, 1)) as cluster:
        settings = {**os.environ, **cluster.environment}
        ready = tmp_path / "ready"
        script = f"echo $$ > {ready}.part; mv {ready}.part {ready}; sleep 60"
        with started(["lock", name, "--ttl", "3s", "--", "sh", "-c", script], settings) as process:
            wait_until(ready.exists, "the command to run")
            cluster.router.kill()
            last_renewed_before = boottime_ms()
            wait_until(lambda: gone(int(ready.read_text())), "the command to be stopped")
            assert boottime_ms() - last_renewed_before < 3000
            assert process.wait(20) == 70
            assert process.stderr is not None
            assert "could not be renewed" in process.stderr.read()


# get, list, check, steal, break


async def test_inspection(settings: dict[str, str], name: str, client: sdk.Client) -> None:
    async with client.lock(f"{name}/a", metadata="me") as lock, client.lock(f"{name}/b", shared=True):
        (shown,) = json.loads((await run("get", f"{name}/a", "--json", settings=settings)).stdout)
        assert (shown["name"], shown["waiters"]) == (f"{name}/a", 0)
        assert [(holder["token"], holder["metadata"]) for holder in shown["holders"]] == [(lock.token, "me")]
        listed = await run("list", name, settings=settings)
        assert [line.split()[0] for line in listed.stdout.splitlines()[1:]] == [f"{name}/a", f"{name}/b"]
        assert (await run("check", f"{name}/a", str(lock.token), settings=settings)).returncode == 0
        assert (await run("check", f"{name}/a", str(lock.token + 1), settings=settings)).returncode == 1
        assert (await run("check", lock.id, settings=settings)).returncode == 0
    assert "free" in (await run("get", f"{name}/a", settings=settings)).stdout
    assert (await run("check", f"{name}/a", "1", settings=settings)).returncode == 1


async def test_steal_runs_a_command_once_the_holder_has_stopped(
    settings: dict[str, str], name: str, client: sdk.Client
) -> None:
    lock = await client.lock(name).acquire()
    token = lock.token
    command = ["steal", name, "--reason", "mine", "--", "sh", "-c", "echo $HOLDFAST_LOCK_TOKEN"]
    stealing = asyncio.create_task(run(*command, settings=settings))
    assert await lock.lost.wait() == sdk.Reason.STOLEN
    assert not lock.held
    assert (await client.get(name)).waiters == 1
    with pytest.raises(sdk.LockLost, match="mine"):
        await lock.release()
    done = await stealing
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > token


async def test_break_passes_the_lock_on(settings: dict[str, str], name: str, client: sdk.Client) -> None:
    lock = await client.lock(name).acquire()
    wrong = await run("break", name, "--token", str(lock.token + 1), settings=settings)
    assert wrong.returncode == 1
    assert lock.held
    assert (await run("break", name, "--reason", "stuck", settings=settings)).returncode == 0
    assert await lock.lost.wait() == sdk.Reason.FORCED
    with pytest.raises(sdk.LockLost, match="stuck"):
        await lock.release()
    async with client.lock(name, wait=5):
        pass
    assert (await run("break", name, settings=settings)).returncode == 1


# Trouble


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["lock", "", "--", "true"], "name"),
        (["lock", "a\nb", "--", "true"], "name"),
        (["lock", "a", "--ttl", "10ms", "--", "true"], "ttl"),
        (["lock", "a", "--ttl", "soon", "--", "true"], "duration"),
        (["lock", "a"], "CMD"),
        (["check", "hf1_nonsense"], "LockID"),
        (["bench", "--concurrency", "0"], "concurrency"),
        (["nonsense"], "nonsense"),
    ],
)
def test_wrong_arguments(settings: dict[str, str], arguments: list[str], says: str) -> None:
    done = holdfast(*arguments, environment=settings)
    assert done.returncode == 64, done.stderr
    assert says in done.stderr


def test_a_command_that_cannot_be_run_gives_the_lock_back(settings: dict[str, str], name: str) -> None:
    assert holdfast("lock", name, "--", "no-such-command", environment=settings).returncode == 127
    assert holdfast("lock", name, "--wait", "0", "--", "true", environment=settings).returncode == 0


@pytest.mark.parametrize("command", [["status"], ["get", "a"], ["lock", "a", "--", "true"], ["bench"]])
def test_a_wrong_key_no_router_and_no_settings(settings: dict[str, str], tmp_path: Path, command: list[str]) -> None:
    denied = holdfast(*command, environment={**settings, "HOLDFAST_API_KEY": "hf_wrong", "HOLDFAST_OPERATOR_KEY": ""})
    assert (denied.returncode, "API key" in denied.stderr) == (77, True), denied.stderr
    nobody = holdfast(*command, environment={**settings, "HOLDFAST_URL": "holdfast://127.0.0.1:1"})
    assert nobody.returncode == 69, nobody.stderr
    unset = holdfast(*command, environment=environment_in(tmp_path))
    assert (unset.returncode, "holdfast up" in unset.stderr) == (78, True), unset.stderr
    odd = holdfast(*command, environment={**settings, "HOLDFAST_URL": "http://127.0.0.1"})
    assert odd.returncode == 78, odd.stderr


# bench


@pytest.mark.parametrize(
    ("mode", "processes"), [("cycle", "1"), ("cycle", "2"), ("contended", "1"), ("contended", "2")]
)
def test_bench_prints_figures(settings: dict[str, str], mode: str, processes: str) -> None:
    options = ["--seconds", "0.5", "--concurrency", "8", "--mode", mode, "--processes", processes, "--json"]
    done = holdfast("bench", *options, environment=settings)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["errors"] == {}
    assert report["cycles"] > 20
    assert report["cycles_per_s"] == pytest.approx(report["cycles"] / 0.5, rel=0.3)
    assert 0 < report["acquire_ms"]["p50"] <= report["acquire_ms"]["p99"] <= report["acquire_ms"]["max"]
    assert (report["handoff_ms"] is not None) == (mode == "contended")
    cpu = report["cpu_us_per_cycle"]
    assert cpu["total"] == pytest.approx(cpu["client"] + cpu["router"] + cpu["nodes"], abs=0.3)
    assert cpu["nodes"] > 0
    work = report["work"]
    # Eight at once in two groups; a commit is written by three nodes, and none of it is done for nothing.
    assert 1 <= work["operations_per_entry"] <= 16
    assert 0.1 < work["syncs"] < 10
    assert work["messages"] > work["syncs"]
    assert work["calls"] > work["messages"] / 8
    assert work["written_bytes"] > 200
    assert (report["nodes"], report["groups"]) == (3, 2)


def test_bench_can_be_read(settings: dict[str, str]) -> None:
    done = holdfast("bench", "--seconds", "0.3", "--concurrency", "4", environment=settings)
    assert done.returncode == 0, done.stderr
    for word in ("cycles", "acquire", "CPU", "machine", "version"):
        assert word in done.stdout
