"""Addresses as formations and META hold them and servers are given them: ``HOST:PORT``."""

from __future__ import annotations

import ipaddress
import socket


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


def is_loopback(host: str) -> bool:
    """Whether only this machine can be meant. A name is looked up; one that is unknown is not."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = {str(place[4][0]) for place in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return False
    return bool(found) and all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in found)


def check_plaintext(address: str, *, allowed: bool) -> None:
    """Raise ``ValueError`` when this address would carry secrets in the clear beyond this machine, unasked."""
    if not allowed and not is_loopback(split_address(address, port_min=0)[0]):
        raise ValueError(
            f"{address} is reached from other machines, and without TLS keys and locks would pass in the clear: give "
            "--tls-cert and --tls-key, or say --plaintext if the network itself is safe"
        )
