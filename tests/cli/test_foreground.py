"""A command run in the foreground: its exit code, its signals, its terminal, and all that it started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.cli.exits import Exit, Stop
from holdfast.cli.foreground import Foreground
from holdfast.cluster import Guardian

from .processes import gone, wait_until


@pytest.fixture
def guardian() -> Iterator[Guardian]:
    guardian = Guardian()
    yield guardian
    guardian.close()


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143)])
async def test_the_exit_code_is_the_commands(guardian: Guardian, script: str, code: int) -> None:
    assert await Foreground(["sh", "-c", script], {}, guardian).run() == code


async def test_the_environment_is_added(guardian: Guardian, tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = f'echo "$ADDED $HOME" > {out}'
    await Foreground(["sh", "-c", script], {"ADDED": "yes"}, guardian).run()
    assert out.read_text() == f"yes {os.environ['HOME']}\n"


async def test_a_command_that_cannot_be_run(guardian: Guardian, tmp_path: Path) -> None:
    with pytest.raises(Stop) as missing:
        await Foreground(["no-such-command"], {}, guardian).run()
    assert missing.value.code == Exit.NOT_FOUND
    with pytest.raises(Stop) as forbidden:
        await Foreground([str(tmp_path)], {}, guardian).run()
    assert forbidden.value.code == Exit.CANNOT_RUN


async def test_signals_are_forwarded(guardian: Guardian, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    script = f"trap 'exit 9' USR1; touch {ready}; while :; do sleep 0.02; done"
    running = asyncio.create_task(Foreground(["sh", "-c", script], {}, guardian).run())
    await asyncio.to_thread(wait_until, ready.exists, "the command to start")
    os.kill(os.getpid(), signal.SIGUSR1)
    assert await running == 9


async def test_a_command_that_ignores_term_is_killed_after_the_grace(guardian: Guardian, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    script = f"trap '' TERM; touch {ready}; while :; do sleep 0.02; done"
    running = asyncio.create_task(Foreground(["sh", "-c", script], {}, guardian, grace_s=0.1).run())
    await asyncio.to_thread(wait_until, ready.exists, "the command to start")
    os.kill(os.getpid(), signal.SIGTERM)
    assert await running == 128 + signal.SIGKILL


async def test_a_signal_reaches_all_that_the_command_started(guardian: Guardian, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    command = Foreground(
        ["sh", "-c", f"sleep 60 & echo $! > {pid_file}.part; mv {pid_file}.part {pid_file}; wait"], {}, guardian
    )
    running = asyncio.create_task(command.run())
    await asyncio.to_thread(wait_until, pid_file.exists, "the command to start")
    command.signal(signal.SIGKILL)
    assert await running == 128 + signal.SIGKILL
    child = int(pid_file.read_text())
    wait_until(lambda: gone(child), "the grandchild to be killed")


async def test_cancelling_kills_the_command(guardian: Guardian) -> None:
    running = asyncio.create_task(Foreground(["sleep", "60"], {}, guardian).run())
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


ON_A_TERMINAL = """
import asyncio, sys
from holdfast.cli.foreground import Foreground
from holdfast.cluster import Guardian

async def run():
    command = Foreground(["sh", "-c", sys.argv[2]], {}, Guardian(), may_resume=lambda: sys.argv[1] == "yes")
    print("code", await command.run(), flush=True)

asyncio.run(run())
"""


class Terminal:
    """A shell's part: the runner as a job of its own on a new terminal."""

    def __init__(self, may_resume: bool, script: str) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(sys.executable, [sys.executable, "-c", ON_A_TERMINAL, "yes" if may_resume else "no", script])
        self.shown = ""

    def expect(self, text: str) -> None:
        deadline = time.monotonic() + 10
        while text not in self.shown:
            assert time.monotonic() < deadline, f"waited for {text!r}, saw {self.shown!r}"
            try:
                self.shown += os.read(self.fd, 4096).decode()
            except OSError:
                assert text in self.shown, f"the terminal closed before {text!r}; it showed {self.shown!r}"

    def press(self, keys: bytes) -> None:
        os.write(self.fd, keys)

    def stopped(self) -> None:
        """Returns when the runner itself has stopped, as a shell would notice."""
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)

    def bring_back(self) -> None:
        """What a shell's fg does: the runner leads the session here, so its group is in the foreground already."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        os.close(self.fd)


@pytest.fixture
def on_terminal(request: pytest.FixtureRequest) -> Iterator[Terminal]:
    terminal = Terminal(*request.param)
    yield terminal
    terminal.close()


@pytest.mark.parametrize("on_terminal", [(True, 'read line; echo "got $line"')], indirect=True)
def test_the_command_reads_the_terminal(on_terminal: Terminal) -> None:
    on_terminal.press(b"hello\n")
    on_terminal.expect("got hello")
    on_terminal.expect("code 0")


@pytest.mark.parametrize("on_terminal", [(True, "echo up; exec sleep 60")], indirect=True)
def test_ctrl_c_is_the_commands(on_terminal: Terminal) -> None:
    on_terminal.expect("up")
    on_terminal.press(b"\x03")
    on_terminal.expect("code 130")


@pytest.mark.parametrize("on_terminal", [(True, "echo up; read line; echo on; exit 3")], indirect=True)
def test_ctrl_z_stops_both_and_fg_brings_both_back(on_terminal: Terminal) -> None:
    on_terminal.expect("up")
    on_terminal.press(b"\x1a")
    on_terminal.stopped()
    on_terminal.bring_back()
    on_terminal.press(b"\n")
    on_terminal.expect("code 3")
    assert "on" in on_terminal.shown


@pytest.mark.parametrize("on_terminal", [(False, "echo up; read line; echo ran on")], indirect=True)
def test_a_stopped_command_that_may_not_resume_is_killed(on_terminal: Terminal) -> None:
    on_terminal.expect("up")
    on_terminal.press(b"\x1a")
    on_terminal.stopped()
    on_terminal.bring_back()
    on_terminal.expect("code 137")
    assert "ran on" not in on_terminal.shown


def test_a_killed_runner_takes_the_command_along(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = f"echo $$ > {pid_file}.part; mv {pid_file}.part {pid_file}; sleep 60"
    runner = subprocess.Popen([sys.executable, "-c", ON_A_TERMINAL, "yes", script])
    wait_until(pid_file.exists, "the command to start")
    runner.kill()
    runner.wait()
    command = int(pid_file.read_text())
    wait_until(lambda: gone(command), "the command to be killed")


async def test_a_signal_that_comes_before_the_command_runs_is_the_commands(guardian: Guardian) -> None:
    foreground = Foreground(["sleep", "60"], {}, guardian)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await foreground.run() == 128 + signal.SIGTERM


async def test_a_command_that_is_stopped_and_continued_at_once_is_waited_for(guardian: Guardian) -> None:
    foreground = Foreground(["sleep", "0.3"], {}, guardian)
    running = asyncio.ensure_future(foreground.run())
    await asyncio.sleep(0.05)
    for _ in range(200):
        foreground.signal(signal.SIGSTOP)
        foreground.signal(signal.SIGCONT)
    async with asyncio.timeout(5):
        assert await running == 0
