"""Each test of the suite runs on each adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aiojobs_rt.admin import admin_of
from tests.conformance.adapters import KINDS, CarriedJob, bed, log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiojobs_rt.admin import Administers
    from tests.conformance.adapters import Bed


@pytest.fixture(params=KINDS)
async def on(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bed]:
    """The adapter that carries the jobs of this suite, and what makes them run."""
    log.clear()
    url = request.getfixturevalue("redis_url") if request.param == "redis" else ""
    async with bed(request.param, url) as made:
        monkeypatch.setattr(CarriedJob, "adapter", made.adapter)
        yield made


@pytest.fixture
async def admin(on: Bed) -> AsyncIterator[Administers]:
    """Queries and actions over its queues."""
    made = admin_of(on.adapter)
    yield made
    await made.aclose()
