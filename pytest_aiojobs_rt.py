"""The pytest plugin: the fixture `jobs`. It stands outside the package, which is imported when the fixture is first used, not when pytest starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiojobs_rt.testing.jobs import Jobs


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    """All jobs that are enqueued during the test, in this process, are recorded: see `aiojobs_rt.testing.Jobs`."""
    from aiojobs_rt.testing.jobs import recording_jobs  # noqa: PLC0415 - a project without jobs does not pay for it

    with recording_jobs(everywhere=True) as recorded:
        yield recorded
