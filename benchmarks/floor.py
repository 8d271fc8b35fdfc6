"""The floor: what one Python process and one redis-server can do at best on this machine.

A bare loop with the round trips of the product and nothing else of it: an enqueue script (with an index of ids), XREADGROUP in batches,
slots over a local queue, arguments checked by pydantic, one settle script per batch (per-job fence, index, history, counters). The
product's figures are read as a share of these, measured in the same run.

    python -m benchmarks.floor produce URL LOAD
    python -m benchmarks.floor work URL LOAD SLOTS
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import os
import secrets
import signal
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import TypeAdapter
from redis import asyncio as aioredis
from redis.exceptions import ResponseError
from typing_extensions import TypedDict

from benchmarks import tally
from benchmarks.load import Load, Produced
from benchmarks.loop import run

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

BATCH = 500
STREAM, INDEX, STATS, RECENT = "{floor}stream", "{floor}index", "{floor}stats", "{floor}recent"

ENQUEUE = """
local n = 0
for i = 1, #ARGV, 4 do
  if redis.call('HSETNX', KEYS[2], ARGV[i], '') == 1 then
    local entry = redis.call('XADD', KEYS[1], '*', 'id', ARGV[i], 'job', ARGV[i+1], 'args', ARGV[i+2], 'meta', ARGV[i+3])
    redis.call('HSET', KEYS[2], ARGV[i], entry)
    n = n + 1
  end
end
return n
"""
SETTLE = """
local settled = 0
for i = 2, #ARGV, 3 do
  if redis.call('XACK', KEYS[1], 'workers', ARGV[i]) == 1 then
    redis.call('XDEL', KEYS[1], ARGV[i])
    redis.call('HDEL', KEYS[2], ARGV[i+1])
    redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[1], '*', 'r', ARGV[i+2])
    settled = settled + 1
  end
end
redis.call('HINCRBY', KEYS[3], 'succeeded', settled)
return settled
"""


class NoopArguments(TypedDict):
    n: int
    s: str


class SleepArguments(TypedDict):
    n: int
    ms: int


class StampArguments(TypedDict):
    n: int
    at_ns: int
    us: int


class CpuArguments(TypedDict):
    n: int
    us: int


class PayloadArguments(TypedDict):
    n: int
    data: str


async def noop(n: int, s: str) -> None:  # noqa: ARG001 - the product's job takes it too
    tally.marks[n] += 1
    if not n:
        tally.begin()


async def sleep(n: int, ms: int) -> None:
    tally.marks[n] += 1
    if not n:
        tally.begin()
    await asyncio.sleep(ms / 1000)


async def stamp(n: int, at_ns: int, us: int) -> None:
    late_ns = time.monotonic_ns() - at_ns
    tally.marks[n] += 1
    if not n:
        tally.begin()
    else:
        tally.delays.append(late_ns / 1_000_000)
    if us:
        tally.spin(us)


async def cpu(n: int, us: int) -> None:
    tally.marks[n] += 1
    if not n:
        tally.begin()
    tally.spin(us)


async def payload(n: int, data: str) -> None:  # noqa: ARG001 - the product's job takes it too
    tally.marks[n] += 1
    if not n:
        tally.begin()


JOBS: dict[str, tuple[Callable[..., Coroutine[Any, Any, None]], TypeAdapter[Any]]] = {
    "Noop": (noop, TypeAdapter(NoopArguments)),
    "Sleep": (sleep, TypeAdapter(SleepArguments)),
    "Stamp": (stamp, TypeAdapter(StampArguments)),
    "Cpu": (cpu, TypeAdapter(CpuArguments)),
    "Payload": (payload, TypeAdapter(PayloadArguments)),
}


def _giver(load: Load) -> Callable[[int], dict[str, Any]]:
    match load.job:
        case "Sleep":
            return lambda n: {"n": n, "ms": load.sleep_ms}
        case "Stamp":
            return lambda n: {"n": n, "at_ns": time.monotonic_ns(), "us": load.spin_us}
        case "Cpu":
            return lambda n: {"n": n, "us": load.spin_us}
        case "Payload":
            data = "x" * load.payload
            return lambda n: {"n": n, "data": data}
        case _:
            return lambda n: {"n": n, "s": "x"}


async def produce(url: str, load: Load) -> Produced:
    """Enqueue the load, as a bare program would."""
    redis = await _connect(url)
    enqueue = await redis.script_load(ENQUEUE)
    dump, give = JOBS[load.job][1].dump_json, _giver(load)
    batch = _batch(load) if load.mode == "bulk" else 1
    gaps, at = load.gaps(), time.monotonic()
    began, cpu_began = time.perf_counter(), time.process_time()
    for start in range(0, load.jobs, batch):
        flat: list[Any] = []
        for n in range(start, min(start + batch, load.jobs)):
            flat += secrets.token_hex(16), load.job, dump(give(n)), orjson.dumps({"at": time.time(), "n": 0})
        await redis.evalsha(enqueue, 2, STREAM, INDEX, *flat)
        if load.mode == "paced":
            at += next(gaps)
            await asyncio.sleep(max(at - time.monotonic(), 0))
    produced = Produced(time.perf_counter() - began, time.process_time() - cpu_began)
    await redis.aclose()
    return produced


async def work(url: str, load: Load, slots: int) -> None:
    """Run jobs until TERM, and leave the tally."""
    redis = await _connect(url)
    settle = await redis.script_load(SETTLE)
    perform, arguments = JOBS[load.job]
    local: asyncio.Queue[tuple[bytes, dict[bytes, bytes]]] = asyncio.Queue()
    outcomes: list[tuple[bytes, bytes, bytes]] = []
    some, stopping = asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    pause = 0.004 if load.job == "Sleep" else 0.0005  # what waits lasts that long
    batch = _batch(load)
    reader = ("XREADGROUP", "GROUP", "workers", f"w{os.getpid()}", "COUNT", batch)

    async def fetch() -> None:
        block: tuple[Any, ...] = ()
        while True:
            if local.qsize() > batch:
                await asyncio.sleep(pause)
                continue
            reply: Any = await redis.execute_command(*reader, *block, "STREAMS", STREAM, ">")  # type: ignore[no-untyped-call] # redis-py's own
            block = () if reply else ("BLOCK", 2000)
            for entry in reply[0][1] if reply else ():
                local.put_nowait(entry)

    async def slot() -> None:
        pristine = contextvars.copy_context()
        while True:
            entry, fields = await local.get()
            began = time.perf_counter()
            meta = orjson.loads(fields[b"meta"])
            with suppress(Exception):  # a failure is seen in the tally
                await perform(**arguments.validate_json(fields[b"args"]))
            took = time.perf_counter() - began
            record = orjson.dumps([fields[b"id"].decode(), fields[b"job"].decode(), took, meta["at"]])
            outcomes.append((entry, fields[b"id"], record))
            some.set()
            if contextvars.copy_context() != pristine:
                raise RuntimeError("context changed")

    async def settler() -> None:
        while True:
            await some.wait()
            some.clear()
            while outcomes:
                flat: list[Any] = [1000]
                for outcome in outcomes[:BATCH]:
                    flat += outcome
                del outcomes[:BATCH]
                await redis.evalsha(settle, 4, STREAM, INDEX, STATS, RECENT, *flat)

    tally.ready()
    tasks = [asyncio.create_task(part) for part in (fetch(), settler(), *(slot() for _ in range(slots)))]
    await stopping.wait()
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    await redis.aclose()
    tally.write()
    for error in ended:
        if isinstance(error, Exception):
            raise error


def _batch(load: Load) -> int:
    """How many jobs a request carries: no more than a megabyte of them."""
    return min(BATCH, max((1 << 20) // max(load.payload, 1), 1))


async def _connect(url: str) -> aioredis.Redis:
    redis = aioredis.Redis.from_url(url)
    with suppress(ResponseError):  # the group is there already
        await redis.xgroup_create(STREAM, "workers", "0", mkstream=True)
    return redis


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["produce", url, load]:
            print(json.dumps(asdict(run(produce(url, Load.parse(load))))))
        case ["work", url, load, slots]:
            run(work(url, Load.parse(load), int(slots)))
        case _:
            sys.exit(__doc__)
