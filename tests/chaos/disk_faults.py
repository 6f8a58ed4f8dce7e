"""Disks that fill up, and journals that are not what was written. Only one disk at a time, and the next one only after
the last has caught up: more is not promised to be survived."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from holdfast.cluster import ClusterError

from .damage import fill, flip_synced, small_disk, tear_tail
from .scene import READY_S, FaultFailed, Scene

EXIT_DATA: Final = 3
EXIT_DISK: Final = 4


def _directory(scene: Scene, node: int) -> Path:
    return scene.cluster.directory / f"node-{node}"


async def fill_disk(scene: Scene) -> None:
    """A node's disk is full: it ends with the code for that, and comes back when there is room."""
    node = await scene.node()
    directory = _directory(scene, node)
    await scene.end(node, signal.SIGTERM)
    with small_disk(directory):
        await scene.restart(node)
        ballast = await asyncio.to_thread(fill, directory)
        code = await scene.ended(node)
        if code != EXIT_DISK:
            raise FaultFailed(f"node {node} ended with code {code}, not {EXIT_DISK}, when its disk was full")
        ballast.unlink()
        await scene.restart(node)
        await scene.end(node, signal.SIGTERM)
    await scene.restart(node)


async def tear_journal(scene: Scene) -> None:
    """What a write that was cut short leaves behind the last record does not keep a node from starting."""
    node = await scene.node()
    await scene.end(node, signal.SIGKILL)
    tear_tail(_directory(scene, node), scene.chance)
    await scene.restart(node)


async def flip_and_restore(scene: Scene) -> None:
    """A node refuses to start from a journal with a flipped byte; as written, the journal is good again."""
    node = await scene.node()
    await scene.end(node, signal.SIGKILL)
    flip = await asyncio.to_thread(flip_synced, _directory(scene, node), scene.chance)
    scene.say(f"{flip.path.name}, byte {flip.offset}")
    await _refuses(scene, node)
    flip.apply()
    await scene.restart(node)


async def flip_and_replace(scene: Scene) -> None:
    """The same, and the disk is replaced as ``docs/operations.md`` says: offline."""
    node = await scene.node()
    await scene.end(node, signal.SIGKILL)
    flip = await asyncio.to_thread(flip_synced, _directory(scene, node), scene.chance)
    scene.say(f"{flip.path.name}, byte {flip.offset}")
    await _refuses(scene, node)
    for peer in scene.peers(node):
        await scene.end(peer, signal.SIGTERM)
    await asyncio.to_thread(_replace, scene, node)
    await scene.restart(*scene.cluster.nodes)
    await _caught_up(scene, node)


async def _refuses(scene: Scene, node: int) -> None:
    try:
        await asyncio.to_thread(scene.cluster.restart, node)
    except ClusterError:
        pass  # as it must
    code = scene.cluster.nodes[node].exit_code()
    if code != EXIT_DATA:
        raise FaultFailed(f"node {node} ended with code {code}, not {EXIT_DATA}, when a synced byte was flipped")


def _replace(scene: Scene, node: int) -> None:
    directory = _directory(scene, node)
    new = directory.with_name(directory.name + ".new")
    survivors = [str(_directory(scene, peer)) for peer in scene.peers(node)]
    holdfast = str(Path(sys.executable).with_name("holdfast"))
    command = [holdfast, "node", "replace", "--node", str(node), "--out", str(new)]
    done = subprocess.run([*command, *survivors], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise FaultFailed(f"node {node} could not be replaced: {done.stderr}")
    assert json.loads(done.stdout)["node"] == node
    shutil.rmtree(directory)
    new.rename(directory)


async def _caught_up(scene: Scene, node: int) -> None:
    """Until then another disk must not be lost."""
    async with asyncio.timeout(READY_S):
        while (_directory(scene, node) / "fresh").exists():
            await asyncio.sleep(0.05)
