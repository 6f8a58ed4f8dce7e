"""PostgreSQL's advisory locks (``postgresql``): one server, a lock as long as its connection; no lease and no token."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from .peer import Kind, Peer, PeerFailed, Target
from .servers import Server, free_ports

DEBIAN_PROGRAMS = Path("/usr/lib/postgresql")
SETTINGS = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": "600"}
SETTINGS |= {"shared_buffers": "128MB", "fsync": "on", "synchronous_commit": "on"}
EACH_ITS_OWN = 1 << 20


def program(name: str) -> str | None:
    """Debian keeps them off PATH; of several versions the newest."""
    versions = sorted(DEBIAN_PROGRAMS.glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    return str(versions[-1]) if versions else shutil.which(name)


class PostgreSQL(Peer):
    name = "postgresql"
    title = "PostgreSQL advisory locks"
    kinds = (
        Kind(
            "asyncpg",
            "asyncpg_advisory",
            needs=("asyncpg",),
            clients_max=EACH_ITS_OWN,
            workers_max=256,
            library="asyncpg",
        ),
    )

    @classmethod
    def missing(cls) -> str:
        return "" if program("initdb") else "servers missing: apt install postgresql"

    def start(self) -> None:
        (self._port,) = free_ports(1)
        # It refuses to be root; Debian's package has made it a user.
        user = "postgres" if os.geteuid() == 0 else None
        if user:
            shutil.chown(self.directory, user)
        data = self.directory / "data"
        command = [program("initdb") or "initdb", "--auth=trust", "--username=holdfast", f"--pgdata={data}"]
        made = subprocess.run(command, user=user, cwd=self.directory, capture_output=True, text=True, check=False)
        if made.returncode:
            raise PeerFailed(f"initdb: {made.stderr.strip()}")
        command = [program("postgres") or "postgres", "-D", str(data), "-p", str(self._port)]
        for setting, value in SETTINGS.items():
            command += ["-c", f"{setting}={value}"]
        self.servers = [Server(command, self.directory / "log", self.guardian, user=user)]
        self.servers[0].start()
        self.await_serving()

    def await_serving(self) -> None:
        asking = [program("pg_isready") or "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self._port)]
        self.servers[0].await_that(lambda: subprocess.run(asking, check=False).returncode == 0)

    def target(self, kind: Kind) -> Target:
        return {"port": self._port}

    def version(self) -> str:
        said = subprocess.run([program("postgres") or "postgres", "-V"], capture_output=True, text=True, check=True)
        return said.stdout.split()[2]
