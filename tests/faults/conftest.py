"""Fixtures of the fault tests: a fleet of worker processes on a Redis of its own or on the shared one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aiojobs_rt import RedisAdapter
from tests.support.jobs import FaultJob
from tests.support.worker_process import Fleet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
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
