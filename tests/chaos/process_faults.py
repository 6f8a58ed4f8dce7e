"""Processes that die, stop, or are told to end; and clocks that are not what they should be."""

from __future__ import annotations

import asyncio
import signal
from typing import Final

from .scene import Scene
from .workload import TTLS_S

STOP_S_MAX: Final = max(TTLS_S) + 2.0
"""A holder that is stopped for as long has lost all its leases when it wakes."""


async def kill_node(scene: Scene) -> None:
    node = await scene.node()
    await scene.end(node, signal.SIGKILL)
    await scene.pause(0.0, 3.0)
    await scene.restart(node)


async def kill_all_nodes(scene: Scene) -> None:
    for node in scene.cluster.nodes:
        await scene.end(node, signal.SIGKILL)
    await scene.pause(0.0, 1.0)
    await scene.restart(*scene.cluster.nodes)


async def kill_majority(scene: Scene) -> None:
    nodes = scene.peers(await scene.node())
    for node in nodes:
        await scene.end(node, signal.SIGKILL)
    await scene.pause(0.0, 2.0)
    await scene.restart(*nodes)


async def term_node(scene: Scene) -> None:
    node = await scene.node()
    await scene.end(node, signal.SIGTERM)
    await scene.pause(0.0, 1.0)
    await scene.restart(node)


async def stop_node(scene: Scene) -> None:
    node = await scene.node()
    scene.cluster.kill(node, signal.SIGSTOP)
    try:
        await scene.pause(0.2, STOP_S_MAX)
    finally:
        scene.cluster.kill(node, signal.SIGCONT)
    await scene.ready()


async def stop_all_nodes(scene: Scene) -> None:
    """As a machine that sleeps: nobody hears anybody, then all go on where they were."""
    try:
        for node in scene.cluster.nodes:
            scene.cluster.kill(node, signal.SIGSTOP)
        await scene.pause(0.2, 3.0)
    finally:
        for node in scene.cluster.nodes:
            scene.cluster.kill(node, signal.SIGCONT)
    await scene.ready()


async def turn_wall_clock(scene: Scene) -> None:
    offset_s = round(scene.chance.choice((-1, 1)) * 10 ** scene.chance.uniform(0.0, 6.0))
    scene.say(f"{offset_s:+d} s")
    scene.cluster.turn_clock(f"{offset_s:+d}")
    await scene.pause(1.5, 3.0)


async def kill_router(scene: Scene) -> None:
    router = scene.router()
    router.kill()
    await scene.pause(0.0, 2.0)
    await asyncio.to_thread(scene.cluster.restart_one, router)


async def term_router(scene: Scene) -> None:
    router = scene.router()
    router.signal(signal.SIGTERM)
    while router.running():
        await asyncio.sleep(0.01)
    await asyncio.to_thread(scene.cluster.restart_one, router)


async def stop_router(scene: Scene) -> None:
    router = scene.router()
    router.signal(signal.SIGSTOP)
    try:
        await scene.pause(0.2, STOP_S_MAX)
    finally:
        router.signal(signal.SIGCONT)


async def kill_client(scene: Scene) -> None:
    slot = scene.slot()
    scene.workers.kill(slot)
    await scene.pause(0.0, 1.0)
    await asyncio.to_thread(scene.workers.replace, slot)


async def stop_client(scene: Scene) -> None:
    slot = scene.slot()
    scene.workers.signal(slot, signal.SIGSTOP)
    try:
        await scene.pause(0.2, STOP_S_MAX)
    finally:
        scene.workers.signal(slot, signal.SIGCONT)
