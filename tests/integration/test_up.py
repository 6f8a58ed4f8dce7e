"""``holdfast up``: runs a cluster, says how to use it, and leaves no process behind, however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from holdfast.address import parse_url
from holdfast.cli.credentials import Credentials
from holdfast.cluster import ClusterError, LocalCluster, Shape, fetch_status

from ..cli.processes import gone, wait_until
from .running import HOLDFAST, Up, environment_in, holdfast


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    up = Up(tmp_path)
    yield up
    up.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything(up: Up, number: int) -> None:
    up.await_ready()
    servers, temporary = up.server_pids(), up.directory()
    assert len(servers) == 4
    up.process.send_signal(number)
    assert up.process.wait(15) == 0
    assert all(gone(pid) for pid in servers)
    assert not temporary.exists()
    assert not list(up.state.glob("*.json"))


def test_kill_9_leaves_no_process(up: Up) -> None:
    up.await_ready()
    servers = up.server_pids()
    up.process.kill()
    up.process.wait()
    for pid in servers:
        wait_until(lambda pid=pid: gone(pid), "a server to end with what started it")  # type: ignore[misc]


def test_another_terminal_needs_no_settings(up: Up) -> None:
    up.await_ready()
    done = holdfast("status", "--json", environment=up.environment)
    assert done.returncode == 0, done.stderr
    status = json.loads(done.stdout)
    assert [node["up"] for node in status["nodes"]] == [True] * 3
    assert {group["group"] for group in status["nodes"][0]["groups"]} == {0, 1, 2}


def test_it_says_what_ended_and_goes_on_without_it(up: Up) -> None:
    up.await_ready()
    found = up.credentials()
    victim = fetch_status(parse_url(found.url), found.operator_key).nodes[1].pid
    os.kill(victim, signal.SIGKILL)
    up.await_said(f"node 2 (pid {victim}) has ended")
    assert holdfast("status", environment=up.environment).returncode == 1
    assert up.process.poll() is None


def test_a_command_gets_the_settings_and_its_code_is_passed_on(tmp_path: Path) -> None:
    told = "$HOLDFAST_URL $HOLDFAST_HTTP_URL $HOLDFAST_GRPC $HOLDFAST_API_KEY $HOLDFAST_OPERATOR_KEY"
    script = f'echo "{told}"; {HOLDFAST} status > /dev/null && exit 7'
    done = holdfast("up", "--listen", "127.0.0.1:0", "--", "sh", "-c", script, environment=environment_in(tmp_path))
    assert done.returncode == 7, done.stderr
    url, http, grpc, *keys = done.stdout.split()
    assert url.startswith("holdfast://127.0.0.1:")
    assert http.startswith("http://127.0.0.1:")
    assert grpc.startswith("127.0.0.1:")
    assert [key[:3] for key in keys] == ["hf_"] * 2


def test_term_reaches_the_command_and_everything_stops(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"echo $$ $PPID > {pids}.part; mv {pids}.part {pids}; exec sleep 60"
    command = [HOLDFAST, "up", "--listen", "127.0.0.1:0", "--", "sh", "-c", script]
    process = subprocess.Popen(command, env=environment_in(tmp_path), start_new_session=True)
    wait_until(pids.exists, "the command to run", 30)
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 128 + signal.SIGTERM
    assert gone(int(pids.read_text().split()[0]))


def test_a_port_that_is_taken(up: Up, tmp_path: Path) -> None:
    up.await_ready()
    listen = up.credentials().url.removeprefix("holdfast://")
    done = holdfast("up", "--listen", listen, "--", "true", environment=environment_in(tmp_path / "other"))
    assert done.returncode == 69
    assert f"cannot listen on {listen}" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--nodes", "2", "--replicas", "3"], 78, "replicas"),
        (["--nodes", "0"], 64, "at least one node"),
        (["--replicas", "2"], 78, "even number"),
        (["--listen", "nowhere"], 78, "HOST:PORT"),
        (["--data", "/proc/none"], 78, "/proc/none"),
    ],
)
def test_what_cannot_be_formed(tmp_path: Path, arguments: list[str], code: int, says: str) -> None:
    done = holdfast("up", *arguments, "--", "true", environment=environment_in(tmp_path))
    assert done.returncode == code, done.stderr
    assert says in done.stderr


def test_data_is_kept_and_found_again(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with LocalCluster(data, shape=Shape(3, 1, 3)) as first:
        key, before = first.api_key, first.status().nodes[0].groups[0].term
    with LocalCluster(data) as again:
        assert again.api_key == key
        assert again.shape == Shape(3, 1, 3)
        assert again.status().nodes[0].groups[0].term > before
    with pytest.raises(ClusterError, match="3 nodes, 1 groups, 3 replicas"):
        LocalCluster(data, shape=Shape(3, 2, 3)).start()


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with LocalCluster(data, shape=Shape(1, 1, 1)), pytest.raises(ClusterError, match="node 1"):
        LocalCluster(data).start()


def test_credentials_are_private(up: Up) -> None:
    up.await_ready()
    (path,) = up.state.glob("*.json")
    assert path.stat().st_mode & 0o777 == 0o600
    assert msgspec.json.decode(path.read_bytes(), type=Credentials).pid == up.process.pid
