"""Fixtures of the fault tests: a fleet of worker processes on a Redis of its own or on the shared one."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

import pytest

from aiojobs_rt import RedisAdapter
from tests.support.jobs import FaultJob
from tests.support.moments import Moment, seed, times
from tests.support.redis_server import RedisServer
from tests.support.worker_process import Fleet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


@pytest.fixture
async def fleet(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Fleet]:
    """Worker processes on this test process's Redis; jobs are enqueued there."""
    fleet = Fleet(redis_url, tmp_path)
    async with RedisAdapter(redis_url) as adapter:
        monkeypatch.setattr(FaultJob, "adapter", adapter)
        try:
            yield fleet
        finally:
            fleet.close()


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """A Redis with an append-only file that the test may kill, pause and fill."""
    with RedisServer(appendonly=True) as server:
        yield server


@pytest.fixture
async def own_fleet(own_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Fleet]:
    """As `fleet`, on `own_server`."""
    fleet = Fleet(own_server.url, tmp_path)
    async with RedisAdapter(own_server.url, enqueue_timeout=20) as adapter:
        monkeypatch.setattr(FaultJob, "adapter", adapter)
        try:
            yield fleet
        finally:
            fleet.close()


@pytest.fixture
def moment(request: pytest.FixtureRequest) -> Moment:
    """When the fault comes: see `tests/support/moments.py`."""
    if not hasattr(request, "param"):
        return Moment()
    return Moment(random.Random(f"{seed()} {request.node.name}"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """With `-m long`, tests that take `moment` run many times over."""
    if "moment" in metafunc.fixturenames and "long" in re.sub(r"\bnot long\b", "", metafunc.config.option.markexpr):
        metafunc.parametrize(
            "moment",
            [pytest.param(n, marks=[pytest.mark.long, pytest.mark.timeout(120)]) for n in range(times())],
            indirect=True,
        )
