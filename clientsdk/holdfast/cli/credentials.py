"""Where commands learn which cluster to use: the environment, or the one that ``holdfast up`` runs on this machine.

``up`` leaves a file (mode 0600) in the user's state directory for as long as it runs, named by its listen address, so
that another terminal needs no settings.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from holdfast.address import Address, key_of_environment, parse_url
from holdfast.errors import InvalidArgument
from holdfast.wire.hiding import shown
from holdfast.wire.tls import CA_VARIABLE

from .exits import Exit, Stop


class Credentials(msgspec.Struct, frozen=True):
    """``pid``: of the ``up`` that runs the cluster, 0 when the environment named it. ``authority``: the file of its TLS
    authority, empty without TLS or when the system trusts it."""

    url: str
    api_key: str
    pid: int = 0
    operator_key: str = ""
    """Empty where it is not known."""
    authority: str = ""

    def __repr__(self) -> str:
        return shown(self, "api_key", "operator_key")


def state_directory(environment: Mapping[str, str] = os.environ) -> Path:
    base = environment.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "holdfast"


def announce(credentials: Credentials, listen: str) -> Path:
    """Leave them for other terminals; remove the file when the cluster stops. Raises ``OSError``."""
    directory = state_directory()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / f"local-{listen.replace(':', '-')}.json"
    part = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as file:
        file.write(msgspec.json.encode(credentials))
    part.replace(path)
    return path


def find(*, rules: bool = False) -> Credentials:
    """What HOLDFAST_URL, HOLDFAST_API_KEY and HOLDFAST_OPERATOR_KEY say; else the local cluster that runs. Raises
    :class:`Stop` (CONFIG). ``rules``: the operator's key will do, for who rules a cluster need be no tenant of it."""
    url, key, operator = os.environ.get("HOLDFAST_URL", ""), _key(), os.environ.get("HOLDFAST_OPERATOR_KEY", "")
    if url and (key or (rules and operator)):
        found = Credentials(url, key, operator_key=operator)
        address_of(found)
        return found
    found = _running(url, key)
    return msgspec.structs.replace(found, operator_key=operator) if operator else found


def _running(url: str, key: str) -> Credentials:
    """The cluster that ``up`` runs here, at ``url`` if that is said. Raises :class:`Stop` (CONFIG)."""
    running = [local for local in _local() if not url or local.url == url]
    if len(running) == 1 and not key:
        if running[0].authority:
            # For this process and those that it starts.
            os.environ.setdefault(CA_VARIABLE, running[0].authority)
        return running[0]
    if url:
        raise Stop(Exit.CONFIG, f"set HOLDFAST_API_KEY to a key of the cluster at {url}")
    if key:
        raise Stop(Exit.CONFIG, "HOLDFAST_API_KEY is set but HOLDFAST_URL is not: set both or none")
    if running:
        urls = ", ".join(local.url for local in running)
        raise Stop(Exit.CONFIG, f"several clusters run on this machine: set HOLDFAST_URL to one of {urls}")
    raise Stop(
        Exit.CONFIG,
        "no cluster: set HOLDFAST_URL and HOLDFAST_API_KEY, or start one on this machine with 'holdfast up'",
    )


def _key() -> str:
    try:
        return key_of_environment()
    except InvalidArgument as error:
        raise Stop(Exit.CONFIG, str(error)) from None


def _local() -> list[Credentials]:
    found = []
    for path in sorted(state_directory().glob("local-*.json")):
        try:
            local = msgspec.json.decode(path.read_bytes(), type=Credentials)
        except (OSError, msgspec.DecodeError):
            continue
        if _runs(local.pid):
            found.append(local)
        else:
            # Left by an 'up' that was killed. Another user's file in a shared directory is not ours to remove.
            with contextlib.suppress(OSError):
                path.unlink()
    return found


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def address_of(found: Credentials) -> Address:
    """Raises :class:`Stop` (CONFIG) when the URL is none."""
    try:
        return parse_url(found.url)
    except InvalidArgument as error:
        raise Stop(Exit.CONFIG, f"HOLDFAST_URL: {error}") from None
