"""Waiting for what becomes of jobs."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiojobs_rt import JobHandle


async def all_are(status: str, handles: Iterable[JobHandle[Any]], *, timeout: float = 10.0) -> None:  # noqa: ASYNC109 - as wait_until
    """Wait until each of these jobs has a status.

    Raises:
        AssertionError: one has not, within `timeout` seconds; says which, and what it is instead.
    """
    deadline = time.monotonic() + timeout
    for handle in handles:
        while (now := await handle.status()) != status:
            assert time.monotonic() < deadline, f"waited {timeout:g} s for {handle.id} to be {status}; it is {now}"
            await asyncio.sleep(0.01)


async def becomes(status: str, handle: JobHandle[Any], *, timeout: float = 10.0) -> None:  # noqa: ASYNC109 - as wait_until
    """Wait until a job has a status."""
    await all_are(status, [handle], timeout=timeout)
