"""Links that are cut, slow, or lose packets. Each is mended when it ends, also when the run is ended meanwhile."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from .cluster import SECOND_ROUTER
from .network import HUB
from .scene import Scene

CUT_S: Final = (0.5, 6.0)
ALL_CUT_S: Final = (0.5, 3.0)
LOSS_PERCENT: Final = (2, 30)
RATE_KBIT: Final = (150, 800)

Links = list[tuple[int, int]]


def both_ways(node: int, peer: int) -> Links:
    """The node neither hears its peers nor is heard by them."""
    return [(node, peer), (peer, node)]


def unheard(node: int, peer: int) -> Links:
    """The node hears its peers, but they do not hear it."""
    return [(node, peer)]


def deaf(node: int, peer: int) -> Links:
    """The peers hear the node, but it does not hear them."""
    return [(peer, node)]


@asynccontextmanager
async def cut(scene: Scene, links: Links) -> AsyncIterator[None]:
    done: Links = []
    try:
        for source, target in links:
            await asyncio.to_thread(scene.links.cut, source, target)
            done.append((source, target))
        yield
    finally:
        for source, target in done:
            scene.links.mend(source, target)


async def _cut_from_peers(scene: Scene, links: Callable[[int, int], Links]) -> None:
    node = await scene.node()
    async with cut(scene, list(itertools.chain.from_iterable(links(node, peer) for peer in scene.peers(node)))):
        await scene.pause(*CUT_S)
    await scene.ready()


async def cut_node(scene: Scene) -> None:
    await _cut_from_peers(scene, both_ways)


async def mute_node(scene: Scene) -> None:
    await _cut_from_peers(scene, unheard)


async def deafen_node(scene: Scene) -> None:
    await _cut_from_peers(scene, deaf)


async def cut_pair(scene: Scene) -> None:
    """Two nodes lose sight of each other; both see the third."""
    node = await scene.node()
    peer = scene.chance.choice(scene.peers(node))
    scene.say(f"from node {peer}")
    async with cut(scene, both_ways(node, peer)):
        await scene.pause(*CUT_S)
    await scene.ready()


async def cut_every_node(scene: Scene) -> None:
    links = list(itertools.permutations(scene.cluster.nodes, 2))
    async with cut(scene, links):
        await scene.pause(*ALL_CUT_S)
    await scene.ready()


async def slow_node(scene: Scene) -> None:
    node = await scene.node()
    rate_kbit = scene.chance.randint(*RATE_KBIT)
    scene.say(f"{rate_kbit} kbit/s")
    await asyncio.to_thread(scene.links.slow, node, rate_kbit)
    try:
        await scene.pause(*CUT_S)
    finally:
        scene.links.quicken(node)
    await scene.ready()


async def lossy_node(scene: Scene) -> None:
    node = await scene.node()
    percent = scene.chance.randint(*LOSS_PERCENT)
    scene.say(f"{percent} %")
    await asyncio.to_thread(scene.links.lose, node, percent)
    try:
        await scene.pause(*CUT_S)
    finally:
        scene.links.keep(node)
    await scene.ready()


async def cut_router_from_nodes(scene: Scene) -> None:
    """A router and some nodes, one way or both, while the nodes hear each other."""
    router = scene.cluster.host_of(scene.router())
    nodes = scene.chance.sample(list(scene.cluster.nodes), scene.chance.randint(1, len(scene.cluster.nodes)))
    way = scene.chance.choice((both_ways, unheard, deaf))
    scene.say(f"from nodes {sorted(nodes)}, {way.__name__}")
    async with cut(scene, list(itertools.chain.from_iterable(way(router, node) for node in nodes))):
        await scene.pause(*CUT_S)


async def cut_clients_from_router(scene: Scene) -> None:
    """From the second, which is on a host of its own."""
    way = scene.chance.choice((both_ways, unheard, deaf))
    scene.say(way.__name__)
    async with cut(scene, way(SECOND_ROUTER, HUB)):
        await scene.pause(*CUT_S)
