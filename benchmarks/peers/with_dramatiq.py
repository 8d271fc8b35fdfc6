"""dramatiq: threads over a list, acked when they have ended. Worker: the dramatiq command, one process: `dramatiq benchmarks.peers.with_dramatiq`."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import Middleware
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks import tally
from benchmarks.peers import jobs

if TYPE_CHECKING:
    from benchmarks.load import Load, Produced


class Counted(Middleware):
    """Leaves the tally when the worker ends."""

    def after_process_boot(self, broker: Any) -> None:  # noqa: ARG002 - its way
        jobs.count_parent()

    def after_worker_shutdown(self, broker: Any, worker: Any) -> None:  # noqa: ARG002 - its way
        tally.write()


broker = RedisBroker(url=jobs.url())
broker.add_middleware(Counted())
RESULTS = bool(os.environ.get("BENCHMARKS_RESULTS"))
if RESULTS:
    broker.add_middleware(Results(backend=RedisBackend(url=jobs.url())))
dramatiq.set_broker(broker)


@dramatiq.actor
def noop(n: int, s: str) -> None:  # noqa: ARG001 - part of the load
    jobs.mark(n)


@dramatiq.actor
def sleep(n: int, ms: int) -> None:
    jobs.sleep(n, ms)


@dramatiq.actor
def stamp(n: int, at_ns: int, us: int) -> None:
    jobs.stamp(n, at_ns, us)


@dramatiq.actor
def late(n: int, due_ms: int) -> None:
    jobs.late(n, due_ms)


def echoed(n: int) -> int:
    jobs.mark(n)
    return n


echo = dramatiq.actor(echoed, actor_name="echo", **({"store_results": True} if RESULTS else {}))


def produce(load: Load) -> Produced:
    actor: Any = {"Noop": noop, "Sleep": sleep, "Stamp": stamp, "Late": late, "Echo": echo}[load.job]

    async def one(given: jobs.Arguments) -> None:
        if "due_ms" in given:
            actor.send_with_options(kwargs=given, delay=max(given["due_ms"] - int(time.time() * 1000), 1))
        else:
            actor.send(**given)

    async def ask(given: jobs.Arguments) -> None:
        actor.send(**given).get_result(block=True)

    return asyncio.run(jobs.produce(load, one, ask=ask))
