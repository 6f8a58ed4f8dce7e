"""Certificates of a router's listeners and links, read again while it runs."""

from __future__ import annotations

import asyncio
import logging
import signal

from holdfast.wire.tls import Certificates, watch_certificates

log = logging.getLogger("holdfast.router")


class CertificateWatch:
    """Reads what was added again when its files change, and on HUP."""

    def __init__(self) -> None:
        self._certificates: list[Certificates] = []

    def add(self, tls: Certificates | None) -> None:
        if tls is not None and tls not in self._certificates:
            self._certificates.append(tls)

    async def run(self) -> None:
        if not self._certificates:
            return
        now = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, now.set)
        await watch_certificates(
            self._certificates,
            now=now,
            on_loaded=lambda: log.info("certificates were read again"),
            on_trouble=lambda why: log.error("certificates cannot be used", extra={"why": why}),
        )
