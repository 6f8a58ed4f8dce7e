"""Hosts on links of their own, which can be cut both ways or one way, be slow or lose packets; needs root, and Linux.

Each host is a network namespace. A link is cut where packets are sent (a blackhole route), so that one direction can
fail alone; it is slow behind a narrow token bucket (tc tbf: packets wait, and those that would wait too long are lost),
and loses packets by an nftables rule.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Protocol

HUB = 0
"""This process's own namespace, as a host."""
OWN = os.getpid() % 100_000
"""In the names of links, so that two test processes do not meet."""
_PREFIX = f"10.213.{OWN % 250}"
_BRIDGE = f"hf{OWN}b"
_TOOLS = ("ip", "tc", "nft")


PORT = 7001
"""Of every host's server."""


class Links(Protocol):
    """Hosts whose links can be harmed. A host is a number; 0 is the hub, on which this process runs."""

    def make(self) -> None: ...

    def unmake(self) -> None:
        """May be called twice."""

    def listen(self, host: int) -> str:
        """HOST:PORT at which the host's one server must listen."""

    def reach(self, host: int) -> str:
        """HOST:PORT at which others find it."""

    def prefix(self, host: int) -> list[str]:
        """What goes before a command line so that it runs on the host."""

    def cut(self, source: int, target: int) -> None:
        """What ``source`` sends to ``target`` does not arrive from now on."""

    def mend(self, source: int, target: int) -> None: ...

    def slow(self, host: int, rate_kbit: int = 400) -> None:
        """What the host sends goes no faster."""

    def quicken(self, host: int) -> None: ...

    def lose(self, host: int, percent: int) -> None:
        """So many of a hundred packets that the host sends are lost, at random."""

    def keep(self, host: int) -> None: ...


def missing() -> str:
    """Why this process cannot make namespaces and bad links; empty when it can."""
    if os.geteuid() != 0:
        return "needs root"
    absent = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if absent:
        return f"needs {', '.join(absent)}"
    tried = Network(1)
    try:
        tried.make()
        tried.slow(1)
        tried.lose(1, 10)
    except subprocess.CalledProcessError as error:
        return f"{' '.join(error.cmd)}: {error.stderr.decode().strip()}"
    finally:
        tried.unmake()
    return ""


class Network:
    """Hosts 1 to ``count`` on one bridge, with the hub; only one network at a time in a process."""

    def __init__(self, count: int) -> None:
        self._hosts = range(1, count + 1)

    def make(self) -> None:
        self.unmake()
        try:
            self._make()
        except BaseException:
            self.unmake()
            raise

    def address(self, host: int) -> str:
        return f"{_PREFIX}.{host or 254}"

    def listen(self, host: int) -> str:
        return f"{self.address(host)}:{PORT}"

    def reach(self, host: int) -> str:
        return self.listen(host)

    def prefix(self, host: int) -> list[str]:
        return [] if host == HUB else ["ip", "netns", "exec", _space(host)]

    def cut(self, source: int, target: int) -> None:
        self._run(source, "ip", "route", "replace", "blackhole", f"{self.address(target)}/32")

    def mend(self, source: int, target: int) -> None:
        self._run(source, "ip", "route", "del", "blackhole", f"{self.address(target)}/32")

    def slow(self, host: int, rate_kbit: int = 400, wait_max_ms: int = 250) -> None:
        """What the host sends waits its turn in a bucket of that rate, and is lost if it would wait longer."""
        bucket = ["tbf", "rate", f"{rate_kbit}kbit", "burst", "8kb", "latency", f"{wait_max_ms}ms"]
        self._run(host, "tc", "qdisc", "replace", "dev", _inside(host), "root", *bucket)

    def quicken(self, host: int) -> None:
        self._run(host, "tc", "qdisc", "del", "dev", _inside(host), "root")

    def lose(self, host: int, percent: int) -> None:
        rule = f"numgen random mod 100 < {percent} drop"
        chain = "type filter hook output priority 0;"
        table = (
            f'add table inet chaos; add chain inet chaos out {{ {chain} }}; add rule inet chaos out oifname != "lo" '
        )
        self._run(host, "nft", table + rule)

    def keep(self, host: int) -> None:
        self._run(host, "nft", "delete table inet chaos")

    def _run(self, host: int, *command: str) -> None:
        _run(*self.prefix(host), *command)

    def _make(self) -> None:
        _run("ip", "link", "add", _BRIDGE, "type", "bridge")
        _run("ip", "addr", "add", f"{self.address(HUB)}/24", "dev", _BRIDGE)
        _run("ip", "link", "set", _BRIDGE, "up")
        for host in self._hosts:
            name, inside, outside = _space(host), _inside(host), _outside(host)
            _run("ip", "netns", "add", name)
            _run("ip", "link", "add", outside, "type", "veth", "peer", "name", inside)
            _run("ip", "link", "set", inside, "netns", name)
            _run("ip", "link", "set", outside, "master", _BRIDGE, "up")
            _run("ip", "-n", name, "addr", "add", f"{self.address(host)}/24", "dev", inside)
            _run("ip", "-n", name, "link", "set", inside, "up")
            _run("ip", "-n", name, "link", "set", "lo", "up")

    def unmake(self) -> None:
        """Also after a process of the same number that was killed. May be called twice."""
        for host in self._hosts:
            _run("ip", "route", "del", "blackhole", f"{self.address(host)}/32", check=False)
            _run("ip", "netns", "del", _space(host), check=False)
            _run("ip", "link", "del", _outside(host), check=False)
        _run("ip", "link", "del", _BRIDGE, check=False)


def _space(host: int) -> str:
    return f"hf{OWN}-{host}"


def _inside(host: int) -> str:
    return f"hf{OWN}i{host}"


def _outside(host: int) -> str:
    return f"hf{OWN}o{host}"


def _run(*command: str, check: bool = True) -> None:
    subprocess.run(command, check=check, capture_output=True)
