"""Enqueues jobs of a user's class: `python -m benchmarks.enqueuer MODULE:CLASS COUNT`, arguments as JSON lines on stdin, taken in turn.

Prints the queue as one JSON line.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from itertools import cycle, islice
from typing import Any

from aiojobs_rt import perform_all_later
from aiojobs_rt.adapters.default import adapter_of
from aiojobs_rt.adapters.redis.adapter import RedisAdapter
from aiojobs_rt.cli.modules import find_job, load_modules
from aiojobs_rt.core import registry
from aiojobs_rt.core.message import queue_of
from aiojobs_rt.errors import AiojobsError
from aiojobs_rt.job import Configured

SLICE = 5_000


async def enqueue(name: str, count: int, lines: list[str]) -> str:
    """Enqueue so many; the queue's name.

    Raises:
        AiojobsError: the class or its arguments are wrong.
        SystemExit: a loaded class has an adapter of its own, or the jobs go to several queues.
    """
    load_modules([name.partition(":")[0]])
    job_class = find_job(name)
    private = os.environ["AIOJOBS_RT_REDIS_URL"]
    for other_name, other in registry.job_classes():
        adapter = adapter_of(other)
        if not isinstance(adapter, RedisAdapter) or adapter.endpoint.url != private:
            sys.exit(
                f"{other_name} names an adapter of its own: let it use the default one here, which is private to the measurement"
            )
    configured: Configured[..., Any] = Configured(job_class)
    loaded = [job_class.signature().load(line.encode()) for line in lines]
    bound = [configured.bind(*args, **kwargs) for args, kwargs in islice(cycle(loaded), count)]
    queues: set[str] = set()
    for start in range(0, count, SLICE):
        queues |= {queue_of(handle.id) for handle in await perform_all_later(bound[start : start + SLICE])}
    await adapter_of(job_class).aclose()
    if len(queues) > 1:
        sys.exit(f"the jobs go to several queues ({', '.join(sorted(queues))}): give arguments of one")
    return queues.pop()


if __name__ == "__main__":
    try:
        print(json.dumps({"queue": asyncio.run(enqueue(sys.argv[1], int(sys.argv[2]), sys.stdin.read().splitlines()))}))
    except AiojobsError as error:
        sys.exit(str(error))
