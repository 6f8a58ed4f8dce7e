"""The gRPC front of a router: ``holdfast.v1`` over ``operations``, which decides everything."""

from __future__ import annotations

from . import suites  # noqa: F401 - before grpc
from .server import GrpcFront

__all__ = ["GrpcFront"]
