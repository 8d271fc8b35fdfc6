"""The jobs that are measured: `python -m aiojobs_rt worker benchmarks.jobs`."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiojobs_rt import Job
from benchmarks import tally

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

marks = tally.marks


class Measured(Job):
    """What they share: the tally is written when the worker ends."""

    @staticmethod
    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[None]:
        try:
            yield
        finally:
            tally.write()


class Noop(Measured):
    async def perform(self, n: int, s: str) -> None:  # noqa: ARG002 - a second argument is part of the load
        marks[n] += 1
        if not n:
            tally.begin()


class Sleep(Measured):
    async def perform(self, n: int, ms: int) -> None:
        marks[n] += 1
        if not n:
            tally.begin()
        await asyncio.sleep(ms / 1000)


class Stamp(Measured):
    """How long it took from the call of perform_later to the first line of perform."""

    async def perform(self, n: int, at_ns: int) -> None:
        late_ns = time.monotonic_ns() - at_ns
        marks[n] += 1
        if not n:
            tally.begin()  # it paid for the connections
        else:
            tally.delays.append(late_ns / 1_000_000)


class Late(Measured):
    """How long after its due time it began."""

    async def perform(self, n: int, due_ms: int) -> None:
        late_ms = time.time() * 1000 - due_ms
        marks[n] += 1
        if not n:
            tally.begin()
        tally.delays.append(late_ms)
