"""The jobs that are measured: `python -m aiojobs_rt worker benchmarks.jobs`."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiojobs_rt import Job, after_perform, before_perform, retry_on
from benchmarks import tally

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

marks = tally.marks


class Measured(Job):
    """What they share: the tally is written when the worker ends."""

    @staticmethod
    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[None]:
        tally.ready()
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

    async def perform(self, n: int, at_ns: int, us: int) -> None:
        late_ns = time.monotonic_ns() - at_ns
        marks[n] += 1
        if not n:
            tally.begin()  # it paid for the connections
        else:
            tally.delays.append(late_ns / 1_000_000)
        if us:
            tally.spin(us)


class Late(Measured):
    """How long after its due time it began."""

    async def perform(self, n: int, due_ms: int) -> None:
        late_ms = time.time() * 1000 - due_ms
        marks[n] += 1
        if not n:
            tally.begin()
        tally.delays.append(late_ms)


class Cpu(Measured):
    async def perform(self, n: int, us: int) -> None:
        marks[n] += 1
        if not n:
            tally.begin()
        tally.spin(us)


class StumbleError(Exception):
    """Every twentieth job, once."""


@retry_on(StumbleError, wait=0)
class Flaky(Measured):
    async def perform(self, n: int) -> None:
        marks[n] += 1
        if not n:
            tally.begin()
        if tally.stumbles(n):
            raise StumbleError


class Payload(Measured):
    async def perform(self, n: int, data: str) -> None:  # noqa: ARG002 - it is the load
        marks[n] += 1
        if not n:
            tally.begin()


class Echo(Measured):
    keep_result = 60

    async def perform(self, n: int) -> int:
        marks[n] += 1
        if not n:
            tally.begin()
        return n


class Ranked(Measured):
    queue = "middle"

    async def perform(self, n: int, rank: int) -> None:
        marks[n] += 1
        if not n:
            tally.begin()
        tally.ranks.append(rank)


@retry_on(ConnectionError, wait=0, attempts=3)
@retry_on(StumbleError, wait=0, attempts=3)
class Rich(Measured):
    """What a job of an application has: callbacks, declarations, a timeout, log lines at a level that is off."""

    timeout = 30

    @before_perform
    def open_account(self) -> None:
        self.logger.debug("job %s begins", self.id)

    @after_perform
    def close_account(self) -> None:
        self.logger.debug("job %s ends", self.id)

    async def perform(self, n: int) -> None:
        self.logger.debug("job number %d", n)
        marks[n] += 1
        if not n:
            tally.begin()
