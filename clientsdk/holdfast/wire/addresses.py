"""Addresses as formations and META hold them and servers are given them: ``HOST:PORT``."""

from __future__ import annotations


def split_address(text: str, *, port_min: int = 1) -> tuple[str, int]:
    """Host, without the brackets of IPv6, and port. Raises ``ValueError`` that says what is wrong.

    ``port_min=0`` is for listening, where 0 takes a free port.
    """
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not (port.isascii() and port.isdecimal()):
        raise ValueError(f"{text!r} is no HOST:PORT")
    if not port_min <= int(port) < 65536:
        raise ValueError(f"{text!r} is no HOST:PORT: a port is {port_min} to 65535")
    return host, int(port)
