"""A deployment by hand, as ``docs/operations.md`` describes it: form, run, route, lose a disk, replace it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..cli.processes import wait_until
from .running import HOLDFAST, holdfast


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(sock.getsockname()[1]) for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


class Deployment:
    """Servers started one by one; ended with the test."""

    def __init__(self) -> None:
        self.servers: dict[str, subprocess.Popen[bytes]] = {}

    def run(self, name: str, *arguments: str) -> str:
        """Start a server; the address on which it listens."""
        server = subprocess.Popen([HOLDFAST, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.servers[name] = server
        assert server.stdout is not None
        found = json.loads(server.stdout.readline())
        assert found["pid"] == server.pid
        return str(found["address"])

    def stop(self) -> list[int]:
        """Exit codes, after TERM."""
        for server in self.servers.values():
            server.send_signal(signal.SIGTERM)
        codes = []
        for server in self.servers.values():
            codes.append(server.wait(10))
            assert server.stdout is not None
            server.stdout.close()
        self.servers.clear()
        return codes


@pytest.fixture
def deployment() -> Iterator[Deployment]:
    deployment = Deployment()
    yield deployment
    for server in deployment.servers.values():
        server.kill()
    deployment.stop()


def start(deployment: Deployment, directories: list[Path], formation: Path) -> str:
    for directory in directories:
        deployment.run(directory.name, "node", "run", "--data", str(directory))
    return deployment.run("router", "router", "--formation", str(formation), "--listen", "127.0.0.1:0")


def test_form_run_lose_a_disk_and_replace_it(deployment: Deployment, tmp_path: Path) -> None:
    out = tmp_path / "cluster"
    addresses = ",".join(f"127.0.0.1:{port}" for port in free_ports(3))
    formed = json.loads(holdfast("node", "form", "--nodes", addresses, "--groups", "1", "--out", str(out)).stdout)
    nodes = [out / f"node-{number}" for number in (1, 2, 3)]
    settings = {**os.environ, "HOLDFAST_API_KEY": formed["api_key"], "HOLDFAST_OPERATOR_KEY": formed["operator_key"]}

    def tokens() -> int:
        settings["HOLDFAST_URL"] = f"holdfast://{start(deployment, nodes, out / 'formation.json')}"
        done = holdfast("lock", "deploy", "--", "sh", "-c", "echo $HOLDFAST_LOCK_TOKEN", environment=settings)
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    before = tokens()
    assert deployment.stop() == [0, 0, 0, 0]
    shutil.rmtree(nodes[1])
    arguments = ["--node", "2", "--out", str(out / "node-2-new"), str(nodes[0]), str(nodes[2])]
    replaced = holdfast("node", "replace", *arguments)
    assert replaced.returncode == 0, replaced.stderr
    nodes[1] = out / "node-2-new"
    assert tokens() > before
    wait_until(lambda: holdfast("status", environment=settings).returncode == 0, "the new disk to have caught up")
    assert deployment.stop() == [0, 0, 0, 0]


def test_a_formed_directory_is_not_formed_again(tmp_path: Path) -> None:
    arguments = ["node", "form", "--nodes", "127.0.0.1:7001", "--replicas", "1", "--out", str(tmp_path)]
    assert holdfast(*arguments).returncode == 0
    again = holdfast(*arguments)
    assert again.returncode == 2
    assert "not empty" in again.stderr


def test_a_taken_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        holdfast("node", "form", "--nodes", address, "--replicas", "1", "--out", str(tmp_path))
        node = holdfast("node", "run", "--data", str(tmp_path / "node-1"))
        router = holdfast("router", "--formation", str(tmp_path / "formation.json"), "--listen", address)
    assert (node.returncode, router.returncode) == (5, 5)
    assert f"cannot listen on {address}" in node.stderr
    assert f"cannot listen on {address}" in router.stderr


def test_the_commands_end_with_the_codes_of_the_servers(tmp_path: Path) -> None:
    holdfast("node", "form", "--nodes", "127.0.0.1:7001", "--replicas", "1", "--out", str(tmp_path))
    data, formation = str(tmp_path / "node-1"), str(tmp_path / "formation.json")
    for listen in ("127.0.0.1:99999", "no.such.host.invalid:1", ""):
        assert holdfast("node", "run", "--data", data, "--listen", listen).returncode == 2
        assert holdfast("router", "--formation", formation, "--listen", listen).returncode == 2
    missing = str(tmp_path / "none")
    assert holdfast("router", "--formation", formation, "--tls-cert", missing, "--tls-key", missing).returncode == 2
    (tmp_path / "node-1" / "identity").write_bytes(b"\xff")
    assert holdfast("node", "run", "--data", data).returncode == 3
