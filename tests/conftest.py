"""What holds for all tests."""

from __future__ import annotations

import os

# Read when grpc is loaded. With it, what is forked to become a server starts gRPC's threads anew before that, and now
# and then one of them finds its descriptors closed already and aborts the server to be.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
