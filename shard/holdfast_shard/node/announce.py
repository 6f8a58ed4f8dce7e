"""Telling the meta group where others find this node, when that is not what it knows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from holdfast.wire.addresses import split_address
from holdfast.wire.dialing import open_link
from holdfast.wire.frames import Kind, Section, Stamped, Status, decode_answer_list, encode
from holdfast.wire.limits import PROTOCOL_VERSION
from holdfast.wire.messages import FrameRequest, Hello, Msg, Role
from holdfast.wire.stream import Connection
from holdfast.wire.tls import Certificates, LinkTls, node_name

from ..formation import Formation
from ..machine import META_GROUP

RETRY_S = 0.5
ANSWER_TIMEOUT_S = 3.0


async def announce(
    formation: Formation,
    node: int,
    address: str,
    *,
    known: Callable[[], str | None],
    changed: asyncio.Event,
    members: Callable[[], dict[int, str]],
    tls: Certificates | None,
) -> None:
    """Have the meta group say that ``node`` is at ``address``; to say it again costs no version.

    ``members`` are the meta group's, by number. ``known`` is what this node's own replica of it says, None without one.
    What it says at a start is old: an announcement of an earlier start may still be on its way to it. So with a replica
    this watches, woken by ``changed``, until cancelled; without one it returns when the leader has applied the one
    announcement.
    """
    columns = Section(0, 0, bytes([Kind.ANNOUNCE]), [0], [address], [0], [node], [0], [0], {})
    frame = encode([Stamped(0, b"\xff\xff", columns)])
    while True:
        changed.clear()
        if known() == address:
            await changed.wait()
        elif await _tell(formation, members(), frame, tls) and known() is None:
            return
        else:
            await asyncio.sleep(RETRY_S)


async def _tell(formation: Formation, members: dict[int, str], frame: bytes, tls: Certificates | None) -> bool:
    """Ask the members in turn until one of them, the leader, has applied it."""
    for member, address in members.items():
        security = tls.toward(node_name(member, formation.cluster)) if tls is not None else None
        if await _try(formation, address, frame, security):
            return True
    return False


async def _try(formation: Formation, address: str, frame: bytes, security: LinkTls | None) -> bool:
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[bool] = loop.create_future()

    def settle(value: bool) -> None:
        if not answered.done():
            answered.set_result(value)

    def on_message(connection: Connection, kind: int, group: int, request: int, body: bytes | None) -> None:
        if kind == Msg.ANSWERS and body is not None:
            settle(_is_ok(body))
        elif kind == Msg.REFUSED:
            settle(False)

    try:
        split_address(address)
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            connection = await open_link(lambda: Connection(on_message, lambda _, __: settle(False)), address, security)
            try:
                hello = Hello(PROTOCOL_VERSION, Role.ROUTER, formation.secret, formation.cluster)
                connection.send(Msg.HELLO, 0, 0, encode(hello))
                connection.send(Msg.OPS, META_GROUP, 1, encode(FrameRequest([], msgspec.Raw(frame))))
                return await answered
            finally:
                connection.close()
    except (OSError, TimeoutError, ValueError):
        return False


def _is_ok(body: bytes) -> bool:
    try:
        answers = decode_answer_list(body)
    except msgspec.DecodeError:
        return False
    return bool(answers) and answers[0].statuses == bytes([Status.OK])
