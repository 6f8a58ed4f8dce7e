"""All peers, in the order in which they are shown."""

from __future__ import annotations

from .etcd import Etcd
from .floor_pipeline import Floor
from .holdfast_cluster import Holdfast
from .peer import Peer
from .postgresql import PostgreSQL
from .redis_alone import RedisInMemory, RedisOnDisk
from .redlock import Redlock
from .zookeeper import ZooKeeper

PEERS: dict[str, type[Peer]] = {
    peer.name: peer for peer in (Holdfast, Floor, RedisInMemory, RedisOnDisk, Redlock, Etcd, ZooKeeper, PostgreSQL)
}
