"""Worker: the task group, from start to shutdown.

1. Start: every job class can be loaded, Redis is new enough, each class's `lifespan` is entered, the leases are taken.
2. Run: fetcher -> buffer -> slots -> settler, and beside them promoter, reclaimer, courier, control and the heartbeat thread.
3. `quiet`: nothing more is fetched. `stop`: quiet; the buffer goes back to the queue; running jobs finish within `shutdown_timeout`; what
   is left is put back first and cancelled after, with a second for `finally` blocks; then the leases are given up. (G6)
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import secrets
import socket
import time
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

import anyio
from redis import exceptions

from aiojobs_rt.adapters.redis.connection import Away
from aiojobs_rt.adapters.redis.routing import Wires
from aiojobs_rt.core import registry
from aiojobs_rt.core.execution import Runtime
from aiojobs_rt.errors import ConfigurationError
from aiojobs_rt.settings import settings
from aiojobs_rt.worker.buffer import Buffer
from aiojobs_rt.worker.control import Control
from aiojobs_rt.worker.courier import Courier
from aiojobs_rt.worker.fetcher import Fetcher
from aiojobs_rt.worker.heartbeat import Heartbeat
from aiojobs_rt.worker.leases import Leases
from aiojobs_rt.worker.progress import Progress
from aiojobs_rt.worker.promoter import Promoter
from aiojobs_rt.worker.read_ahead import ReadAhead
from aiojobs_rt.worker.reclaimer import Reclaimer
from aiojobs_rt.worker.served import Served
from aiojobs_rt.worker.settler import Settler
from aiojobs_rt.worker.shutdown import Shutdown, to_its_end
from aiojobs_rt.worker.slots import Slots
from aiojobs_rt.worker.startup import (
    add_registered_shards,
    await_redis,
    check_keys,
    choose_queues,
    enter_lifespans,
    find_adapter,
)
from aiojobs_rt.worker.state import WorkerState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from anyio.abc import TaskGroup, TaskStatus

    from aiojobs_rt.adapters.redis.adapter import RedisAdapter
    from aiojobs_rt.settings import Prefetch

logger = logging.getLogger("aiojobs_rt.worker")


class Worker:
    """Runs jobs: one process, one task group, at most `concurrency` jobs at once.

    `await worker.run()` inside an application's own loop, or `python -m aiojobs_rt worker MODULE...`.

    Args:
        queues: names in strict order, or names with weights; default: every queue that the loaded job classes name.
        adapter: where; default: that of the loaded job classes, else the default adapter.
        concurrency: how many jobs run at once; default: the setting (AIOJOBS_RT_CONCURRENCY), else 100.
        prefetch: how many jobs are read ahead of the free slots, from 0, or "auto": what they finish in about 50 ms; default:
            the setting (AIOJOBS_RT_PREFETCH), else "auto".
        lease: seconds without a sign after which this worker counts as dead; default: the setting (AIOJOBS_RT_LEASE), else 30.
        shutdown_timeout: seconds for which running jobs may finish at `stop`; default: the setting, else 25.
        burst: stop when the queues are drained.
        on_deadline: called, from another thread, when the shutdown takes longer than it may because a job ignores its cancellation.

    Raises:
        ConfigurationError: an argument is wrong, or there is no job class.
    """

    def __init__(
        self,
        *,
        queues: Sequence[str] | Mapping[str, int] | None = None,
        adapter: RedisAdapter | None = None,
        concurrency: int | None = None,
        prefetch: Prefetch | None = None,
        lease: float | None = None,
        shutdown_timeout: float | None = None,
        burst: bool = False,
        on_deadline: Callable[[], None] | None = None,
    ) -> None:
        options = settings()
        self.concurrency = options.concurrency if concurrency is None else concurrency
        self.shutdown_timeout = options.shutdown_timeout if shutdown_timeout is None else shutdown_timeout
        lease = options.lease if lease is None else lease
        if self.concurrency < 1:
            raise ConfigurationError(f"concurrency must be at least 1, got {concurrency}")
        prefetch = options.prefetch if prefetch is None else prefetch
        if prefetch != "auto" and prefetch < 0:
            raise ConfigurationError(f'prefetch must be "auto" or a number of jobs from 0, got {prefetch}')
        if lease < 0.5:
            raise ConfigurationError(f"lease must be at least 0.5 s, got {lease}")
        self._classes = [job_class for _, job_class in registry.job_classes()]
        self._adapter = adapter or find_adapter(self._classes)
        names, weights = choose_queues(queues, self._classes)
        check_keys(self._classes)
        self.name = f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(3)}"
        prefix = self._adapter.prefix
        self._names, self._weights = names, weights
        served = [
            Served(part, worker=self.name, prefix=prefix, lease=lease)
            for name in names
            for part in self._adapter.shards.parts(name)
        ]
        self._state = state = WorkerState(self._adapter, name=self.name, lease=lease, queues=served)
        self._burst = burst
        self._burst_idle = 0
        self._on_deadline = on_deadline or (lambda: None)
        self._stopping = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started_at = time.time()
        self._runtime = Runtime(worker=self.name, now_ms=state.clock.now_ms, states={}, is_cancelled=_is_cancelled)
        self._wires = Wires(self._adapter.endpoint, "aiojobs_rt:worker")
        self._promoter = Promoter(state)
        self._courier = Courier(state)
        self._settler = Settler(state, on_crossing=self._courier.call)
        self._buffer = Buffer()
        self._progress = Progress(state)
        self._slots = Slots(
            self.concurrency,
            buffer=self._buffer,
            settler=self._settler,
            runtime=self._runtime,
            progress=self._progress,
        )
        self._leases = Leases(
            state, wires=self._wires, buffer=self._buffer, slots=self._slots, on_change=self._look_soon
        )
        self._fetcher = Fetcher(
            state,
            buffer=self._buffer,
            ahead=ReadAhead(state, buffer=self._buffer, slots=self._slots, settler=self._settler, prefetch=prefetch),
            settler=self._settler,
            heal=self._leases.heal,
            on_empty=self._found_empty,
        )
        if burst:
            self._fetcher.block_ms = 50
        self._reclaimer = Reclaimer(
            state,
            promoter=self._promoter,
            courier=self._courier,
            settler=self._settler,
            renew=self._leases.renew,
            on_cancel=self._cancel,
            on_lanes=self._wake,
            details=self._details,
        )
        self._control = Control(
            state,
            promoter=self._promoter,
            reclaimer=self._reclaimer,
            on_cancel=self._cancel,
            on_lane=self._lanes_changed,
            on_quiet=self.quiet,
        )
        self._shutdown = Shutdown(
            state,
            buffer=self._buffer,
            slots=self._slots,
            settler=self._settler,
            timeout=self.shutdown_timeout,
            leave=self._leave,
        )
        self._wakes: set[asyncio.Task[None]] = set()
        self._heartbeat: Heartbeat | None = None

    @property
    def adapter(self) -> RedisAdapter:
        """Where its queues are."""
        return self._adapter

    @property
    def queues(self) -> list[str]:
        """The names of the queues that it serves, in order."""
        return list(self._names)

    @property
    def ends_by(self) -> float:
        """When its shutdown timeout is over, if it was asked to stop, else would be if it was now (time.monotonic)."""
        return (self._shutdown.asked_at or time.monotonic()) + self.shutdown_timeout

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Work until `stop`; with `burst`, until the queues are drained.

        Cancelling it cancels the running jobs without waiting for them; their entries go back to the queue at once, as far as Redis
        answers, else when the lease has passed. Cancelling it once more gives up waiting for Redis; its connections are closed all the same.

        Raises:
            ConfigurationError: a job class can't be loaded, or Redis is too old or not as configured.
        """
        for job_class in self._classes:
            job_class.signature()
        self._loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            try:
                await self._start(stack)
                async with anyio.create_task_group() as group:
                    await self._work(group, task_status)
            finally:
                with anyio.CancelScope(shield=True):
                    try:
                        if (
                            any(served.registered for served in self._state.queues.values())
                            or self._heartbeat is not None
                        ):
                            with anyio.move_on_after(3):
                                await self._shutdown.give_back()
                    finally:
                        await to_its_end(self._close(), timeout=5)

    def stop(self) -> None:
        """Stop, as TERM does; a second call stops at once."""
        if self._stopping.is_set():
            self._shutdown.at_once.set()
        self.expect_stop()
        self.quiet()
        self._progress.stopping = True
        self._stopping.set()

    def expect_stop(self, *, at_once: bool = False) -> None:
        """The time of the shutdown begins; `stop` follows as soon as the event loop moves. For signal handlers, which need no loop."""
        self._shutdown.expect(self._heartbeat, at_once=at_once)

    def quiet(self) -> None:
        """Fetch nothing more, as TSTP does; running jobs go on."""
        if not self._state.quiet:
            logger.info("quiet: no more jobs are fetched")
        self._state.quiet = True
        self._fetcher.resumed.set()
        self._buffer.ran_low.set()
        self._settler.less_unsettled.set()
        for served in self._state.queues.values():
            self._wake(served)

    # -- running ---------------------------------------------------------------------------------

    async def _start(self, stack: AsyncExitStack) -> None:
        await await_redis(self._state, self._wires.any, self._stopping)
        self._state.queues = await add_registered_shards(self._state, self._wires, self._names)
        for served in self._state.queues.values():
            served.on_suspect_gone = self._wake
        self._fetcher.order.set(self._weights)
        self._runtime.states = await enter_lifespans(self._classes, stack)
        await self._leases.take_all(self._stopping)
        self._heartbeat = Heartbeat(
            self._state,
            loop=asyncio.get_running_loop(),
            buffer=self._buffer,
            stall_limit=settings().stall_limit,
            on_lost=self._leases.note_lost,
            on_deadline=self._on_deadline,
            release=self._settler.release_unsafe,
            running=lambda: self._slots.running,
        )
        self._heartbeat.start()

    async def _work(self, group: TaskGroup, task_status: TaskStatus[None]) -> None:
        await self._control.start()
        group.start_soon(self._slots.run, group)
        group.start_soon(self._promoter.run)
        group.start_soon(self._courier.run)
        group.start_soon(self._progress.run)
        group.start_soon(self._reclaimer.run)
        logger.info(
            "worker %s: queues %s, concurrency %d, Redis %s",
            self.name,
            ", ".join(self._names),
            self.concurrency,
            self._adapter.endpoint.display,
        )
        task_status.started()
        fetching = asyncio.create_task(self._fetcher.run(), name="aiojobs_rt fetcher")
        try:
            await self._until_stopped(fetching)
            await self._shutdown.run(fetching, self._heartbeat)
        finally:
            # never cancelled while it reads: an entry may be on its way. Cancelled all the same when the worker itself is.
            if not fetching.done():
                fetching.cancel()
            group.cancel_scope.cancel()

    async def _until_stopped(self, fetching: asyncio.Task[None]) -> None:
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait([fetching, stopping], return_when=asyncio.FIRST_COMPLETED)
            if fetching.done():
                fetching.result()  # a bug of ours is not hidden
            await stopping
        finally:
            stopping.cancel()

    async def _leave(self) -> None:
        await self._leases.give_up_all()
        await self._reclaimer.withdraw()

    async def _close(self) -> None:
        if self._heartbeat is not None:
            self._heartbeat.stop()
            await asyncio.to_thread(self._heartbeat.join, 2)
        for part in (
            self._control,
            self._fetcher,
            self._promoter,
            self._courier,
            self._progress,
            self._reclaimer,
            self._settler,
        ):
            await part.aclose()
        await self._wires.close()

    async def _found_empty(self) -> None:
        """With `burst`: stop when nothing is left on the streams, in the buffer, in the slots, or to settle."""
        if not self._burst:
            return
        if len(self._buffer) or self._slots.running or self._settler.unsettled or self._state.away:
            self._burst_idle = 0
            return
        moved = 0
        for served in self._state.queues.values():
            moved += await self._promoter.promote(served)
        self._burst_idle = 0 if moved else self._burst_idle + 1
        if self._burst_idle >= 2:
            self.stop()

    # -- messages --------------------------------------------------------------------------------

    def _cancel(self, served: Served, job_id: str) -> None:
        served.note_cancel(job_id)
        halted = self._slots.halt(
            "cancel",
            lambda delivery: (
                delivery.served is served and delivery.message is not None and delivery.message.id == job_id
            ),
        )
        if halted:
            logger.info("job %s is cancelled while it runs", job_id)

    def _look_soon(self) -> None:
        self._reclaimer.soon.set()

    def _lanes_changed(self, served: Served) -> None:
        self._look_soon()
        self._wake(served)

    def _wake(self, served: Served) -> None:
        """End the blocking read, by an entry on the stream that it names."""
        if served.name in self._fetcher.blocked_on and self._loop is not None:
            sending = self._loop.create_task(self._send_wake(served))
            self._wakes.add(sending)
            sending.add_done_callback(self._wakes.discard)

    async def _send_wake(self, served: Served) -> None:
        with suppress(Away, ConfigurationError, exceptions.ResponseError):  # the read ends by itself within 2 s
            await self._wires.of(served.name).call(
                # not made when it is gone: it would have no TTL
                "XADD",
                served.keys.wake + served.consumer,
                "NOMKSTREAM",
                "MAXLEN",
                1,
                "*",
                "w",
                "1",
                timeout=1,
            )

    def _details(self) -> dict[str, str | int]:
        return {
            "queues": ",".join(self._names),
            "concurrency": self.concurrency,
            "running": len(self._slots.running),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": int(self._started_at * 1000),
            "beat": self._state.clock.now_ms(),
            "quiet": int(self._state.quiet),
            "finished": self._slots.finished,
        }


def _is_cancelled() -> bool:
    """Whether the calling task's group is cancelled, and not just the task."""
    return anyio.current_effective_deadline() == -math.inf
