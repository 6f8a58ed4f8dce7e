"""The log of a router says once that the meta group is silent, and once that it is heard again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from holdfast.wire.messages import Beat
from holdfast_router.directory import Directory
from holdfast_router.silence import SilenceWatch
from tests.tenants import meta_of

SILENCE_S = 0.05


class Heard:
    """``now`` stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 0.0
        self._directory = Directory(lambda: self.now, SILENCE_S)
        self._directory.adopt(meta_of())
        self.watch = SilenceWatch(self._directory)

    def beat(self, version: int = 1) -> None:
        self._directory.beat(Beat(version, 1))
        self.watch.heard()


@pytest.fixture
async def meta(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Heard]:
    caplog.set_level(logging.INFO)
    heard = Heard()
    yield heard
    heard.watch.close()


async def said(caplog: pytest.LogCaptureFixture, lines: int) -> list[str]:
    async with asyncio.timeout(5):
        while len(caplog.messages) < lines:
            await asyncio.sleep(0.001)
    return caplog.messages


async def test_silence_and_its_end_are_each_told_once(meta: Heard, caplog: pytest.LogCaptureFixture) -> None:
    meta.beat()
    meta.now += SILENCE_S
    (silent,) = await said(caplog, 1)
    assert "silent" in silent
    await asyncio.sleep(3 * SILENCE_S)
    assert caplog.messages == [silent], "not again and again"
    for _ in range(3):
        meta.beat()
    assert "heard again" in (await said(caplog, 2))[1]
    meta.now += SILENCE_S
    assert (await said(caplog, 3))[2] == silent


async def test_who_is_heard_in_time_is_not_called_silent(meta: Heard, caplog: pytest.LogCaptureFixture) -> None:
    meta.beat()
    await asyncio.sleep(3 * SILENCE_S)
    assert caplog.messages == [], "it looks whenever silence could have become too long"


async def test_a_beat_of_what_is_not_known_yet_ends_no_silence(meta: Heard, caplog: pytest.LogCaptureFixture) -> None:
    meta.beat()
    meta.now += SILENCE_S
    await said(caplog, 1)
    meta.beat(version=2)
    assert len(caplog.messages) == 1


async def test_who_never_hears_it_says_so(meta: Heard, caplog: pytest.LogCaptureFixture) -> None:
    (silent,) = await said(caplog, 1)
    meta.beat()
    assert "heard again" in (await said(caplog, 2))[1]
    assert "silent" in silent
