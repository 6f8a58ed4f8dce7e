"""A local cluster of real processes: started, awaited, hurt and stopped.

The one place that starts servers: for ``holdfast up``, tests and benchmarks. Servers are run as
``python -m holdfast_shard`` and ``python -m holdfast_router``; nothing of theirs is imported.
"""

from __future__ import annotations

from .forming import ClusterError, Shape
from .guardian_client import Guardian
from .local import LocalCluster
from .server_process import ServerProcess
from .status import ClusterStatus, GroupStatus, NodeStatus, fetch_status

__all__ = [
    "ClusterError",
    "ClusterStatus",
    "GroupStatus",
    "Guardian",
    "LocalCluster",
    "NodeStatus",
    "ServerProcess",
    "Shape",
    "fetch_status",
]
