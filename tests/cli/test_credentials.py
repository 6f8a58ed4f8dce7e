from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from holdfast.cli import credentials
from holdfast.cli.credentials import Credentials
from holdfast.cli.exits import Exit, Stop

LOCAL = Credentials("holdfast://127.0.0.1:8420", "hf_local", os.getpid())
OTHER = Credentials("holdfast://127.0.0.1:8421", "hf_other", os.getpid())


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("HOLDFAST_URL", raising=False)
    monkeypatch.delenv("HOLDFAST_API_KEY", raising=False)
    monkeypatch.delenv("HOLDFAST_OPERATOR_KEY", raising=False)


def _refusal() -> str:
    with pytest.raises(Stop) as caught:
        credentials.find()
    assert caught.value.code == Exit.CONFIG
    return str(caught.value)


def test_the_environment_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    credentials.announce(LOCAL, "127.0.0.1:8420")
    monkeypatch.setenv("HOLDFAST_URL", "holdfast://far:1")
    monkeypatch.setenv("HOLDFAST_API_KEY", "hf_far")
    assert credentials.find() == Credentials("holdfast://far:1", "hf_far")


def test_without_settings_the_local_cluster_is_found_and_its_key_is_private() -> None:
    path = credentials.announce(LOCAL, "127.0.0.1:8420")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert credentials.find() == LOCAL


def test_one_of_several_local_clusters_has_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    credentials.announce(LOCAL, "127.0.0.1:8420")
    credentials.announce(OTHER, "127.0.0.1:8421")
    assert LOCAL.url in _refusal()
    monkeypatch.setenv("HOLDFAST_URL", OTHER.url)
    assert credentials.find() == OTHER


def test_a_cluster_whose_process_was_killed_is_forgotten() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    path = credentials.announce(Credentials(LOCAL.url, LOCAL.api_key, ended.pid), "127.0.0.1:8420")
    assert "holdfast up" in _refusal()
    assert not path.exists()


def test_a_damaged_file_is_passed_over() -> None:
    credentials.announce(LOCAL, "127.0.0.1:8420").write_bytes(b"{")
    assert "no cluster" in _refusal()


@pytest.mark.parametrize(
    ("variable", "value", "missing"),
    [("HOLDFAST_URL", "holdfast://far:1", "HOLDFAST_API_KEY"), ("HOLDFAST_API_KEY", "hf_far", "HOLDFAST_URL")],
)
def test_half_a_setting_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, missing: str) -> None:
    credentials.announce(LOCAL, "127.0.0.1:8420")
    monkeypatch.setenv(variable, value)
    assert missing in _refusal()


def test_the_operators_key_of_the_environment_comes_before_that_of_the_local_cluster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    credentials.announce(msgspec.structs.replace(LOCAL, operator_key="hf_ruler"), "127.0.0.1:8420")
    monkeypatch.setenv("HOLDFAST_OPERATOR_KEY", "hf_mine")
    assert credentials.find(rules=True).operator_key == "hf_mine"
    monkeypatch.setenv("HOLDFAST_URL", LOCAL.url)
    assert credentials.find(rules=True).operator_key == "hf_mine"


def test_an_operator_needs_no_key_of_a_tenant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_URL", "holdfast://far:1")
    monkeypatch.setenv("HOLDFAST_OPERATOR_KEY", "hf_mine")
    found = credentials.find(rules=True)
    assert (found.url, found.operator_key) == ("holdfast://far:1", "hf_mine")
    assert "HOLDFAST_API_KEY" in _refusal()
