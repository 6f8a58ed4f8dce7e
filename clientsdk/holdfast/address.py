"""Where the service is: ``holdfast://host:port,host:port`` (``holdfasts://`` with TLS)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from holdfast.errors import InvalidArgument

PORT_DEFAULT: Final = 8420
KEY_FILE: Final = "HOLDFAST_API_KEY_FILE"


@dataclass(frozen=True, slots=True)
class Address:
    hosts: tuple[tuple[str, int], ...]
    tls: bool


def parse_url(url: str | None) -> Address:
    """Read a URL, or ``HOLDFAST_URL`` when there is none. Raises :class:`InvalidArgument` with what is wrong."""
    text = url if url is not None else os.environ.get("HOLDFAST_URL", "")
    if not text:
        raise InvalidArgument("pass a url such as holdfast://127.0.0.1:8420, or set HOLDFAST_URL")
    scheme, _, rest = text.partition("://")
    if "@" in rest:
        # Not shown: what stands before the @ may well be a secret.
        raise InvalidArgument("the address of the service holds no key: set HOLDFAST_API_KEY, or pass api_key")
    if scheme not in ("holdfast", "holdfasts") or not rest:
        raise InvalidArgument(f"{text!r} is no address of the service: it looks like holdfast://host:port[,host:port]")
    hosts = tuple(_host(part.strip(), text) for part in rest.rstrip("/").split(","))
    return Address(hosts, scheme == "holdfasts")


def _host(part: str, url: str) -> tuple[str, int]:
    host, colon, port = part.rpartition(":")
    if not colon or (port.endswith("]") and part.startswith("[")):
        host, port = part, str(PORT_DEFAULT)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise InvalidArgument(f"{part!r} in {url!r} is no host:port")
    return host, int(port)


def key_of(api_key: str | None) -> str:
    """The key, or that of the environment when there is none given. Raises :class:`InvalidArgument`."""
    key = api_key if api_key is not None else key_of_environment()
    if not key:
        raise InvalidArgument("pass api_key, or set HOLDFAST_API_KEY, or name a file that holds it in " + KEY_FILE)
    return key


def key_of_environment() -> str:
    """``HOLDFAST_API_KEY``, else what the file named by ``HOLDFAST_API_KEY_FILE`` holds, else nothing."""
    key, file = os.environ.get("HOLDFAST_API_KEY", ""), os.environ.get(KEY_FILE, "")
    if key or not file:
        return key
    try:
        return Path(file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{KEY_FILE} names {file}, which cannot be read: {error}") from None
