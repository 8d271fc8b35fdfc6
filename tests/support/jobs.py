"""Jobs for the fault tests: each writes to the ledger what it does. Loaded by worker processes and by the tests that enqueue them."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import redis

from aiojobs_rt import Job, discard_on, retry_on
from aiojobs_rt.worker.served import Served
from aiojobs_rt.worker.settler import Settler
from tests.support.acl import as_default
from tests.support.ledger import Ledger

if TYPE_CHECKING:
    from tests.support.ledger import Event

FORK = multiprocessing.get_context("fork")
ledger = Ledger(os.environ.get("TEST_LEDGER", os.devnull))


class FaultJob(Job):
    """Writes to the ledger. The tests set `adapter` here; worker processes have theirs from the environment."""

    def write(self, event: Event, text: str = "") -> None:
        ledger.write(self.id, self.executions, event, text)


class Nap(FaultJob):
    """Sleeps."""

    async def perform(self, number: int, seconds: float = 0.0, *, spend: float = 0.0) -> None:
        self.write("start")
        if seconds:
            await asyncio.sleep(seconds)
        if spend:
            time.sleep(spend)  # noqa: ASYNC251 - a job that blocks the loop is what is tested
        self.write("end", str(number))


class Due(FaultJob):
    """Notes how many milliseconds after its due time it starts, by Redis' clock."""

    async def perform(self, delay_ms: int) -> None:
        with redis.Redis.from_url(as_default(os.environ["AIOJOBS_RT_REDIS_URL"])) as client:
            client_time: Any = client.time()
        seconds, micros = client_time
        enqueued_ms = self.enqueued_at.timestamp() * 1000
        self.write("note", str(seconds * 1000 + micros / 1000 - enqueued_ms - delay_ms))


class Gated(FaultJob):
    """Ends when a file is there; tidies up with an await when it is cancelled."""

    async def perform(self, gate: str) -> None:
        self.write("start")
        try:
            while not Path(gate).exists():  # noqa: ASYNC110, ASYNC240 - other processes open the gate
                await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            await asyncio.sleep(0.05)
            self.write("note", "tidied up")
            raise
        self.write("end")


class Deaf(FaultJob):
    """Swallows every cancellation."""

    async def perform(self) -> None:
        self.write("start")
        while True:
            with suppress(BaseException):
                await asyncio.sleep(0.1)


class Blocker(FaultJob):
    """Blocks the event loop."""

    async def perform(self, seconds: float) -> None:
        self.write("start")
        time.sleep(seconds)  # noqa: ASYNC251 - a job that blocks the loop is what is tested
        self.write("end")


class Poison(FaultJob):
    """Kills its own process."""

    async def perform(self) -> None:
        self.write("start")
        await asyncio.sleep(0.02)
        os.kill(os.getpid(), signal.SIGKILL)


class Bystander(FaultJob):
    """Takes longer than `Poison` needs to kill; nothing once it is suspected itself, as it runs alone then."""

    async def perform(self) -> None:
        self.write("start")
        await asyncio.sleep(0.3 if self.executions < 3 else 0)
        self.write("end")


class Fails(FaultJob):
    """Raises an error of a kind, or none; then it is a plain success."""

    max_attempts = 1

    async def perform(self, kind: str) -> None:
        self.write("start")
        if kind.startswith("child "):
            await asyncio.create_task(raise_later(kind.removeprefix("child ")))
        raise_one(kind)
        self.write("end")


class LeavesBehind(FaultJob):
    """Does something to its process, and ends; what it leaves there goes on for a minute."""

    max_attempts = 1

    async def perform(self, what: str) -> None:
        self.write("start")
        await leave_behind(what)
        self.write("end")


class Threaded(FaultJob):
    """Waits for a thread that nobody can end."""

    async def perform(self, seconds: float) -> None:
        self.write("start")
        await asyncio.to_thread(time.sleep, seconds)
        self.write("end")


class ForksAndKills(FaultJob):
    """Sends TERM to a child process of `multiprocessing`, as its pools do at their end; notes how that has ended."""

    async def perform(self) -> None:
        child = FORK.Process(target=time.sleep, args=(60,), daemon=True)
        child.start()
        child.terminate()
        await asyncio.to_thread(child.join, 10)
        self.write("note", str(child.exitcode))


class ForksByHand(FaultJob):
    """Forks; the child leaves as a child should not, by `sys.exit` or at the end of perform. Notes how it has ended."""

    max_attempts = 1

    async def perform(self, how: str) -> None:
        child = os.fork()
        if not child:
            if how == "exit":
                sys.exit(0)
            return
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        self.write("note", f"{how} {os.waitstatus_to_exitcode(status)}")


@retry_on(ValueError, wait=0.1, attempts=3, jitter=0)
class FlakyTwice(FaultJob):
    """Fails twice."""

    async def perform(self) -> None:
        if self.executions < 3:
            raise ValueError("not yet")
        self.write("end")


class FaultEcho(FaultJob):
    """Returns what it is given, and keeps it."""

    keep_result = 60

    async def perform(self, text: str) -> str:
        return text


@retry_on(ValueError, queue="low", wait=0.05, attempts=3, jitter=0)
class Moves(FaultJob):
    """Fails, and goes on on another queue."""

    async def perform(self) -> None:
        if self.executions == 1:
            raise ValueError("not here")
        self.write("end", self.queue)


@retry_on(ValueError, wait=0, attempts=3, jitter=0)
@discard_on(KeyError)
class FaultMixed(FaultJob):
    """Most succeed; some fail once or twice first, some are discarded. Writes nothing: for large numbers."""

    async def perform(self, number: int, text: str) -> None:
        if number % 20 == 0 and self.executions <= number % 3:
            raise ValueError("not yet")
        if number % 20 == 1:
            raise KeyError(text)


class Weighs(FaultJob):
    """Notes what its process holds while nothing else runs: blocks of Python's allocator, and resident bytes that are not the allocators' spare."""

    async def perform(self) -> None:
        gc.unfreeze()  # a worker process freezes what it has at its start
        for served in (found for found in gc.get_objects() if isinstance(found, Served)):
            served.remembered.clear()  # as it does by itself, a lease later
            served.remembered_count = 0
        gc.collect()
        gc.freeze()
        blocks = sys.getallocatedblocks()
        with suppress(AttributeError):  # not glibc
            ctypes.CDLL(None).malloc_trim(0)
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")  # noqa: ASYNC240 - no disk
        self.write("note", f"{blocks} {resident}")


class Stepwise(FaultJob):
    """Two steps; the rows of the second are noted one by one."""

    async def perform(self, rows: int, seconds: float) -> None:
        self.write("start")
        await self.step("prepare", self.prepare)
        async for step in self.step("rows", start=0):
            for row in range(step.cursor, rows):
                await asyncio.sleep(seconds)
                self.write("note", str(row))
                await step.advance()
        self.write("end")

    async def prepare(self) -> None:
        self.write("note", "prepared")


class LastWords(FaultJob):
    """Its worker is killed between the end of perform and the settling. Its note is the key by which a service would know it again."""

    async def perform(self) -> None:
        self.write("start")
        self.write("note", self.idempotency_key())
        self.write("end")
        if self.executions == 1:
            die_before_settling()


def raise_one(kind: str) -> None:
    """Raise what a kind stands for."""
    match kind:
        case "error":
            raise ValueError("on purpose")
        case "exit":
            raise SystemExit(3)
        case "interrupt":
            raise KeyboardInterrupt
        case "generator":
            raise GeneratorExit
        case "group":
            raise BaseExceptionGroup("several", [SystemExit(1), ValueError("one")])
        case _:
            return


async def raise_later(kind: str) -> None:
    """As `raise_one`, in a coroutine of its own."""
    raise_one(kind)


async def leave_behind(what: str) -> None:
    """Do what a job should not do to its process."""
    match what:
        case "a thread":
            threading.Thread(target=time.sleep, args=(60,)).start()
        case "a deaf task":
            left.append(asyncio.create_task(ignore_cancellation()))
        case "a child process":
            FORK.Process(target=time.sleep, args=(60,)).start()
        case "tasks":
            left.extend(asyncio.create_task(asyncio.sleep(60)) for _ in range(10_000))
        case "a stopped loop":
            asyncio.get_running_loop().stop()
            await asyncio.sleep(0)
        case "signals ignored":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        case "signals as they were":
            asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
        case _:
            raise AssertionError(what)


left: list[asyncio.Task[Any]] = []


async def ignore_cancellation() -> None:
    """For a minute."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with suppress(BaseException):
            await asyncio.sleep(0.1)


def die_before_settling() -> None:
    """From now on, this process kills itself when it is about to settle."""

    def put(*_: object, **__: object) -> NoReturn:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("killed")

    Settler.put = put  # type: ignore[method-assign] # a process that has a moment to live
