"""What a request needs of its connection beyond ASGI: an answer in one piece, and word of a caller that hangs up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from uvicorn.protocols.http.flow_control import FlowControl


class Line(asyncio.Transport):
    """What uvicorn writes to. Between :meth:`hold_back` and :meth:`let_go` it waits, and then leaves as one piece."""

    def __init__(self, transport: asyncio.Transport, flow: FlowControl) -> None:
        super().__init__()
        self._transport = transport
        self._flow = flow
        self._held: list[bytes] | None = None
        self._gone = False
        self._when_gone: Callable[[], object] | None = None
        # Nothing stands between these and the transport.
        self.abort = transport.abort  # type: ignore[method-assign]
        self.get_write_buffer_size = transport.get_write_buffer_size  # type: ignore[method-assign]
        self.is_closing = transport.is_closing  # type: ignore[method-assign]

    def hold_back(self) -> None:
        self._held = []

    def let_go(self) -> None:
        held, self._held = self._held, None
        if held:
            self._transport.write(b"".join(held))

    def write(self, data: bytes) -> None:  # type: ignore[override]
        if self._held is None:
            self._transport.write(data)
        else:
            self._held.append(data)

    def close(self) -> None:
        self.let_go()
        self._transport.close()

    def when_gone(self, call: Callable[[], object] | None) -> None:
        """``call`` when the other end has hung up, at once if it has; None: no more. For the request that is being
        answered: it has the connection to itself."""
        self._when_gone = call
        if call is not None:
            # Who hangs up is heard of by reading, also when more stands behind this request than is read for now.
            self._flow.resume_reading()
            if self._gone:
                call()

    def gone(self) -> None:
        """The connection is no more."""
        self._gone = True
        if self._when_gone is not None:
            self._when_gone()
