"""Where secrets must not be: process arguments, logs, errors, what debuggers print, core dumps, options."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import holdfast
from holdfast.address import key_of, parse_url
from holdfast.cli.credentials import Credentials
from holdfast.cli.program import program
from holdfast.cluster import LocalCluster, Shape
from holdfast.errors import InvalidArgument
from holdfast.wire.frames import encode
from holdfast.wire.limits import PROTOCOL_VERSION
from holdfast.wire.messages import Hello, Msg, Role, Welcome
from holdfast.wire.stream import pack
from holdfast_router.formation import read_formation as read_for_router
from holdfast_shard.formation import new_formation, read_formation
from tests.integration.running import HOLDFAST

WRONG_KEY = "hf_abcdefghijkl_" + "s3cr3t-of-somebody-else".ljust(43, "x")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path_factory.mktemp("secrets"), shape=Shape(1, 1, 1), tls=True) as cluster:
        yield cluster


def secrets_of(cluster: LocalCluster) -> list[str]:
    keys = [cluster.api_key, cluster.operator_key, WRONG_KEY]
    return [*keys, *(key.split("_", 2)[2] for key in keys), read_formation(cluster.formation).secret]


def command_lines() -> set[tuple[int, bytes]]:
    """With the process of each: one has several, its parent's before it runs a program and none when it has ended."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.add((int(path.parent.name), path.read_bytes()))
        except OSError:
            continue  # it ended meanwhile
    return found


def test_no_argument_of_any_process_is_a_secret(cluster: LocalCluster) -> None:
    environment = {**os.environ, **cluster.environment}
    bench = subprocess.Popen(
        [HOLDFAST, "bench", "--seconds", "1", "--concurrency", "1"],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    seen: set[tuple[int, bytes]] = set()
    while bench.poll() is None:
        seen |= command_lines()
    assert bench.stderr is not None
    with bench.stderr as stderr:
        assert bench.returncode == 0, stderr.read()
    assert set(cluster.pids.values()) <= {pid for pid, line in seen if line}
    assert any(b"holdfast.bench.load" in line for _, line in seen)
    for secret in secrets_of(cluster):
        assert [line for _, line in seen if secret.encode() in line] == []


def _say(address: tuple[str, int], data: bytes) -> None:
    with socket.create_connection(address, 5) as stream:
        stream.sendall(data)
        stream.settimeout(5)
        try:
            while stream.recv(1 << 16):
                pass
        except OSError:
            pass  # refused, one way or the other


def test_logs_hold_no_secret_whatever_callers_say(tmp_path: Path) -> None:
    with LocalCluster(tmp_path, shape=Shape(1, 1, 1)) as cluster:
        formation = read_formation(cluster.formation)
        host, _, port = formation.nodes[0].address.rpartition(":")
        greetings = [
            Hello(PROTOCOL_VERSION, Role.CLIENT, WRONG_KEY),
            Hello(PROTOCOL_VERSION + 1, Role.CLIENT, cluster.api_key),
            Hello(PROTOCOL_VERSION, Role.ADMIN, cluster.operator_key),
            Hello(PROTOCOL_VERSION, Role.ROUTER, WRONG_KEY, formation.cluster),
            Hello(PROTOCOL_VERSION, Role.NODE, formation.secret, formation.cluster, 1, WRONG_KEY),
            Hello(PROTOCOL_VERSION, Role.ROUTER, formation.secret, "another"),
        ]
        for greeting in greetings:
            body = encode(greeting)
            for data in (pack(Msg.HELLO, 0, 0, body), pack(Msg.HELLO, 0, 0, body[:-1] + b"\xc1"), body):
                _say(cluster.address, data)
                _say((host, int(port)), data)
        secrets = [each for each in secrets_of(cluster) if each != WRONG_KEY] + [WRONG_KEY]
        logs = {path.name: path.read_text() for path in (tmp_path / "logs").iterdir()}
    assert "refused a caller" in logs["node-1.log"] + logs["router.log"]
    for secret in secrets:
        assert [name for name, text in logs.items() if secret in text] == []


async def test_errors_and_objects_are_written_down_without_secrets(cluster: LocalCluster) -> None:
    assert cluster.authority is not None
    written = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLDFAST_CA", str(cluster.authority))
        with pytest.raises(holdfast.HoldfastError) as refused:
            await holdfast.connect(cluster.url, WRONG_KEY)
        written += [str(refused.value), repr(refused.value)]
        async with holdfast.connect(cluster.url, cluster.api_key) as client, client.lock("a") as lock:
            written += [repr(client), repr(lock), repr(vars(client)), str(await client.status())]
    with pytest.raises(InvalidArgument) as odd:
        parse_url(f"holdfast://{WRONG_KEY}@127.0.0.1:1:2")
    new = new_formation(["127.0.0.1:1"], 1, 1, 0)
    formation = read_formation(cluster.formation)
    written += [str(odd.value), repr(formation), repr(read_for_router(cluster.formation)), repr(new)]
    written += [repr(Hello(1, "client", cluster.api_key)), repr(Welcome(1, "c", 1, seal=b"0123456789")), repr(cluster)]
    written += [repr(vars(cluster)), repr(Credentials(cluster.url, cluster.api_key, 1, cluster.operator_key))]
    for secret in [*secrets_of(cluster), "0123456789", new.api_key, new.operator_key, new.formation.secret]:
        assert [text for text in written if secret in text] == []


def test_no_option_takes_a_key() -> None:
    def options(group: object) -> Iterator[str]:
        for child in getattr(group, "commands", {}).values():
            yield from options(child)
        for parameter in getattr(group, "params", ()):
            yield from parameter.opts

    found = set(options(typer.main.get_command(program)))
    assert "--listen" in found
    # Files, and the public part of a key.
    harmless = {"--tls-key", "--tls-peer-key", "--key-id", "key_id"}
    assert {each for each in found if "key" in each or "secret" in each} <= harmless


def test_a_key_may_stand_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOLDFAST_API_KEY", raising=False)
    file = tmp_path / "key"
    monkeypatch.setenv("HOLDFAST_API_KEY_FILE", str(file))
    with pytest.raises(InvalidArgument, match="cannot be read"):
        key_of(None)
    file.write_text(f"{WRONG_KEY}\n")
    assert key_of(None) == WRONG_KEY
    monkeypatch.setenv("HOLDFAST_API_KEY", "hf_first")
    assert key_of(None) == "hf_first"


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")
def test_a_command_leaves_no_core_and_what_it_runs_may() -> None:
    ask = "import ctypes; print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    script = f"""
import subprocess, sys
from holdfast.cli import main
main(["--help"])
sys.stdout.flush()
{ask}
sys.stdout.flush()
subprocess.run([sys.executable, "-c", {ask!r}])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["0", "1"]
