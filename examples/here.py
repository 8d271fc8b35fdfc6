"""For the programs of this folder: a worker in their own event loop, for as long as they wait for their jobs."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from aiojobs_rt import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


@asynccontextmanager
async def working(*queues: str) -> AsyncGenerator[None]:
    """A worker of these queues for the length of a block. Elsewhere it is a process: `python -m aiojobs_rt worker MODULE`."""
    worker = Worker(queues=list(queues), shutdown_timeout=5)
    async with anyio.create_task_group() as group:
        await group.start(worker.run)
        yield
        worker.stop()
