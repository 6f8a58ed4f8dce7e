"""HOST:PORT, as far as it can be read, and nothing else."""

from __future__ import annotations

import pytest

from holdfast.wire.addresses import split_address


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("127.0.0.1:1", ("127.0.0.1", 1)),
        ("node-1.example:65535", ("node-1.example", 65535)),
        ("[::1]:7001", ("::1", 7001)),
        ("::1:7001", ("::1", 7001)),
    ],
)
def test_host_and_port(text: str, parts: tuple[str, int]) -> None:
    assert split_address(text) == parts


@pytest.mark.parametrize(
    "text", ["", "host", ":1", "[]:1", "host:", "host:0", "host:65536", "host:-1", "host:1a", "h:\u0661"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="no HOST:PORT"):
        split_address(text)


def test_port_0_is_for_listening_alone() -> None:
    assert split_address("127.0.0.1:0", port_min=0) == ("127.0.0.1", 0)
    with pytest.raises(ValueError, match="0 to 65535"):
        split_address("127.0.0.1:65536", port_min=0)
