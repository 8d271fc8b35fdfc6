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
from typing import TYPE_CHECKING, Any

import anyio
from redis import exceptions

from aiojobs_rt.adapters.default import adapter_of
from aiojobs_rt.adapters.redis.adapter import RedisAdapter
from aiojobs_rt.adapters.redis.connection import Away, Wire
from aiojobs_rt.adapters.redis.scripts import script
from aiojobs_rt.core import registry
from aiojobs_rt.core.execution import Runtime, interrupted
from aiojobs_rt.core.message import check_queue_name
from aiojobs_rt.errors import ConfigurationError
from aiojobs_rt.job import Job
from aiojobs_rt.settings import settings
from aiojobs_rt.worker.buffer import Buffer
from aiojobs_rt.worker.control import Control
from aiojobs_rt.worker.courier import Courier
from aiojobs_rt.worker.fetcher import Fetcher
from aiojobs_rt.worker.heartbeat import Heartbeat, grace_ms
from aiojobs_rt.worker.promoter import Promoter
from aiojobs_rt.worker.reclaimer import Reclaimer
from aiojobs_rt.worker.served import Served
from aiojobs_rt.worker.settler import Settler
from aiojobs_rt.worker.slots import Slots
from aiojobs_rt.worker.state import WorkerState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from anyio.abc import TaskGroup, TaskStatus

logger = logging.getLogger("aiojobs_rt.worker")

FINALLY = 1.0
OLDEST_REDIS = (6, 2)


class Worker:
    """Runs jobs: one process, one task group, at most `concurrency` jobs at once.

    `await worker.run()` inside an application's own loop, or `python -m aiojobs_rt worker MODULE...`.

    Args:
        queues: names in strict order, or names with weights; default: every queue that the loaded job classes name.
        adapter: where; default: that of the loaded job classes, else the default adapter.
        concurrency: how many jobs run at once; default: AIOJOBS_RT_CONCURRENCY, else 100.
        lease: seconds without a sign after which this worker counts as dead; default: AIOJOBS_RT_LEASE, else 30.
        shutdown_timeout: seconds for which running jobs may finish at `stop`; default: AIOJOBS_RT_SHUTDOWN_TIMEOUT, else 25.
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
        if lease < 0.5:
            raise ConfigurationError(f"lease must be at least 0.5 s, got {lease}")
        self._classes = [job_class for _, job_class in registry.job_classes()]
        self._adapter = adapter or self._find_adapter()
        names = list(queues) if queues is not None else sorted({job.options().queue for job in self._classes})
        if not names:
            raise ConfigurationError("no queue to serve: name queues (-q), or modules with job classes")
        weights = dict(queues) if isinstance(queues, dict) else {}
        for name in names:
            try:
                check_queue_name(name)
            except ValueError as error:
                raise ConfigurationError(str(error)) from None
            if weights.get(name, 1) < 1:
                raise ConfigurationError(f"queue {name}: the weight must be at least 1, got {weights[name]}")
        self.name = f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(3)}"
        prefix = self._adapter.prefix
        served = [Served(name, worker=self.name, prefix=prefix, lease=lease) for name in dict.fromkeys(names)]
        self._state = state = WorkerState(self._adapter, name=self.name, lease=lease, queues=served)
        self._burst = burst
        self._burst_idle = 0
        self._gave_back = False
        self._on_deadline = on_deadline or (lambda: None)
        self._stopping = asyncio.Event()
        self._at_once = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started_at = time.time()
        self._runtime = Runtime(worker=self.name, now_ms=state.clock.now_ms, states={}, is_cancelled=_is_cancelled)
        self._wire = Wire(self._adapter.endpoint, "aiojobs_rt:worker")
        self._promoter = Promoter(state)
        self._courier = Courier(state)
        self._settler = Settler(state, on_crossing=self._courier.call)
        self._buffer = Buffer()
        self._slots = Slots(self.concurrency, buffer=self._buffer, settler=self._settler, runtime=self._runtime)
        self._fetcher = Fetcher(
            state,
            buffer=self._buffer,
            slots=self._slots,
            settler=self._settler,
            weights=weights,
            register=self._register,
            on_empty=self._found_empty,
        )
        if burst:
            self._fetcher.block_ms = 50
        self._reclaimer = Reclaimer(
            state,
            promoter=self._promoter,
            courier=self._courier,
            settler=self._settler,
            renew=self._renew,
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
        self._heartbeat: Heartbeat | None = None

    @property
    def adapter(self) -> RedisAdapter:
        """Where its queues are."""
        return self._adapter

    @property
    def queues(self) -> list[str]:
        """The names of the queues that it serves, in order."""
        return list(self._state.queues)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Work until `stop`; with `burst`, until the queues are drained.

        Cancelling it cancels the running jobs without waiting for them; their entries go back to the queue at once, as far as Redis
        answers, else when the lease has passed.

        Raises:
            ConfigurationError: a job class can't be loaded, or Redis is too old or not as configured.
        """
        for job_class in self._classes:
            job_class.arguments()
        self._loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            await self._check_redis()
            await self._enter_lifespans(stack)
            for served in self._state.queues.values():
                await self._take_lease(served)
            self._heartbeat = Heartbeat(
                self._state,
                loop=self._loop,
                buffer=self._buffer,
                stall_limit=settings().stall_limit,
                on_lost=self._lost,
                on_deadline=self._on_deadline,
            )
            self._heartbeat.start()
            try:
                async with anyio.create_task_group() as group:
                    await self._work(group, task_status)
            finally:
                with anyio.CancelScope(shield=True):
                    with anyio.move_on_after(3):
                        await self._give_back()
                    with anyio.move_on_after(5):
                        await self._close()

    def stop(self) -> None:
        """Stop, as TERM does; a second call stops at once."""
        if self._stopping.is_set():
            self._at_once.set()
        self.quiet()
        self._stopping.set()

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

    async def _work(self, group: TaskGroup, task_status: TaskStatus[None]) -> None:
        await self._control.start()
        group.start_soon(self._slots.run, group)
        group.start_soon(self._promoter.run)
        group.start_soon(self._courier.run)
        group.start_soon(self._reclaimer.run)
        logger.info(
            "worker %s: queues %s, concurrency %d, Redis %s",
            self.name,
            ", ".join(self._state.queues),
            self.concurrency,
            self._adapter.endpoint.display,
        )
        task_status.started()
        fetching = asyncio.create_task(self._fetcher.run(), name="aiojobs_rt fetcher")
        try:
            await self._until_stopped(fetching)
            await self._shut_down(fetching)
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

    async def _shut_down(self, fetching: asyncio.Task[None]) -> None:
        if self._heartbeat is not None:
            self._heartbeat.deadline = time.monotonic() + self.shutdown_timeout + FINALLY + 5
        for delivery in self._buffer.drain():
            self._settler.release(delivery)
        self._buffer.close()
        deadline = time.monotonic() + self.shutdown_timeout
        logger.info(
            "stopping: %d running job(s) may finish within %g s", len(self._slots.running), self.shutdown_timeout
        )
        await self._first_of(deadline, self._slots.wait_idle(), self._at_once.wait())
        left = self._slots.running
        if left:
            logger.warning("%d job(s) are still running: they are put back, then cancelled", len(left))
            for delivery in left:
                if delivery.message is not None and delivery.consumer == delivery.served.consumer:
                    self._settler.release(delivery, interrupted(delivery.message).message.meta())
            await self._first_of(time.monotonic() + 2, self._settler.flush())
            self._slots.halt("stop", lambda _: True)
            if self._heartbeat is not None:
                self._heartbeat.deadline = time.monotonic() + FINALLY + 3
            await self._first_of(time.monotonic() + FINALLY, self._slots.wait_idle())
        await self._first_of(max(deadline, time.monotonic()) + 2, asyncio.wait([fetching]), self._at_once.wait())
        for delivery in self._buffer.drain():
            self._settler.release(delivery)
        await self._first_of(max(deadline, time.monotonic()) + 2, self._settler.flush())
        await self._first_of(time.monotonic() + 2, self._leave())
        self._gave_back = True
        if self._heartbeat is not None and self._slots.running:
            self._heartbeat.deadline = time.monotonic()

    async def _give_back(self) -> None:
        """Put back what is still held, when the worker was cancelled instead of stopped, and give up the leases."""
        if self._gave_back:
            return
        self._buffer.close()
        await self._settler.flush()
        for served in self._state.queues.values():
            for held in served.held.values():
                for delivery in list(held.values()):
                    message = delivery.message
                    self._settler.release(delivery, b"" if message is None else interrupted(message).message.meta())
        await self._settler.flush()
        await self._leave()

    async def _first_of(self, deadline: float, *waits: Any) -> None:
        tasks = [asyncio.ensure_future(wait) for wait in waits]
        try:
            await asyncio.wait(
                tasks, timeout=max(0.0, deadline - time.monotonic()), return_when=asyncio.FIRST_COMPLETED
            )
            for task in tasks:
                if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                    logger.error("while stopping: %s: %s", type(error).__name__, error)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _leave(self) -> None:
        for served in self._state.queues.values():
            if served.registered:
                keys = served.keys
                await self._wire.run(
                    script("leave"),
                    (keys.workers, keys.stream, keys.lanes, keys.wake + served.consumer, keys.call + served.consumer),
                    (served.consumer,),
                )
                served.registered = False
        await self._reclaimer.withdraw()

    async def _close(self) -> None:
        if self._heartbeat is not None:
            self._heartbeat.stop()
            await asyncio.to_thread(self._heartbeat.join, 2)
        for part in (self._control, self._fetcher, self._promoter, self._courier, self._reclaimer, self._settler):
            await part.aclose()
        await self._wire.close()

    async def _found_empty(self) -> None:
        """With `burst`: stop when nothing is left on the streams, in the buffer, in the slots, or to settle."""
        if not self._burst:
            return
        if len(self._buffer) or self._slots.running or self._settler.unsettled or self._state.redis.away:
            self._burst_idle = 0
            return
        moved = 0
        for served in self._state.queues.values():
            moved += await self._promoter.promote(served)
        self._burst_idle = 0 if moved else self._burst_idle + 1
        if self._burst_idle >= 2:
            self.stop()

    # -- leases ----------------------------------------------------------------------------------

    async def _take_lease(self, served: Served) -> None:
        while not served.registered:
            try:
                await self._register(served)
            except Away as error:
                await self._state.redis.failed(error)
            except exceptions.ResponseError as error:
                if "WRONGTYPE" in str(error) or "NOPERM" in str(error):
                    raise ConfigurationError(f"queue {served.name}: {error}") from None
                await self._state.redis.failed(error)
        self._state.redis.succeeded()

    async def _register(self, served: Served) -> None:
        keys = served.keys
        sent = time.monotonic()
        now_ms, outage, born = await self._wire.run(
            script("register"),
            (keys.workers, keys.grace, keys.stream, keys.lanes, keys.wake + served.consumer, keys.stats),
            (served.consumer, int(served.lease * 1000), grace_ms(served.lease)),
        )
        self._state.clock.set(now_ms)
        served.born = born
        # a lane that is gone (FLUSHALL) must not be read: its group is not made again
        served.set_lanes([lane.decode() for lane in await self._wire.call("ZRANGE", keys.lanes, 0, -1)])
        served.deadline = sent + served.lease
        served.registered = True
        served.look_for_phantoms = True
        if outage:
            logger.warning("queue %s: no worker had a valid lease; nobody reclaims for a while", served.name)

    async def _renew(self, served: Served) -> None:
        """Renew in the loop, when the heartbeat thread did not; take the lease anew when there is none."""
        if not served.registered:
            await self._register(served)
            return
        keys, consumer = served.keys, served.consumer
        sent = time.monotonic()
        state, now_ms = await self._wire.run(
            script("renew"),
            (keys.workers, keys.grace, keys.wake + consumer, keys.stats),
            (consumer, int(served.lease * 1000), grace_ms(served.lease), served.born),
        )
        self._state.clock.set(now_ms)
        if state == b"held":
            served.deadline = sent + served.lease
        else:
            self._lost(served, consumer, state == b"forgotten")
            await self._register(served)

    def _lost(self, served: Served, consumer: str, forgotten: bool) -> None:  # noqa: FBT001 - called across threads
        """The lease on a queue is lost: its jobs run elsewhere by now. Or Redis has forgotten the queue: they run on here."""
        if served.consumer != consumer or not served.registered:
            return
        buffered = self._buffer.drain()
        self._buffer.put(delivery for delivery in buffered if delivery.served is not served)
        if forgotten:
            logger.warning(
                "queue %s: Redis has lost its data; this worker registers again, and running jobs go on", served.name
            )
            for held in served.held.values():
                held.clear()
            served.registered = False
        else:
            halted = self._slots.halt(
                "lost", lambda delivery: delivery.served is served and delivery.consumer == consumer
            )
            logger.error(
                "queue %s: the lease of %s was lost; %d running job(s) are cancelled, they run elsewhere",
                served.name,
                consumer,
                halted,
            )
            served.next_epoch()
        self._reclaimer.soon.set()

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

    def _lanes_changed(self, served: Served) -> None:
        self._reclaimer.soon.set()
        self._wake(served)

    def _wake(self, served: Served) -> None:
        """End the blocking read, by an entry on the stream that it names."""
        if served.name in self._fetcher.blocked_on and self._loop is not None:
            self._loop.create_task(self._send_wake(served))

    async def _send_wake(self, served: Served) -> None:
        with suppress(Away, ConfigurationError, exceptions.ResponseError):  # the read ends by itself within 2 s
            await self._wire.call("XADD", served.keys.wake + served.consumer, "MAXLEN", 1, "*", "w", "1", timeout=1)

    def _details(self) -> dict[str, str | int]:
        return {
            "queues": ",".join(self._state.queues),
            "concurrency": self.concurrency,
            "running": len(self._slots.running),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": int(self._started_at * 1000),
            "beat": self._state.clock.now_ms(),
            "quiet": int(self._state.quiet),
            "finished": self._slots.finished,
        }

    # -- starting --------------------------------------------------------------------------------

    def _find_adapter(self) -> RedisAdapter:
        adapters = {id(adapter): adapter for adapter in (adapter_of(job_class) for job_class in self._classes or [Job])}
        if len(adapters) > 1:
            named = ", ".join(sorted(repr(adapter) for adapter in adapters.values()))
            raise ConfigurationError(
                f"the job classes use several adapters ({named}): give the worker the one it is to serve"
            )
        (adapter,) = adapters.values()
        if not isinstance(adapter, RedisAdapter):
            raise ConfigurationError(f"a worker needs a RedisAdapter, the job classes use {adapter!r}")
        return adapter

    async def _check_redis(self) -> None:
        while True:
            try:
                reply: list[Any] = await self._wire.call("HELLO")
            except Away as error:
                await self._state.redis.failed(error)
                continue
            except exceptions.ResponseError as error:
                raise ConfigurationError(
                    f"{self._adapter.endpoint.display}: {error}; Redis 6.2 or newer is needed"
                ) from None
            break
        self._state.redis.succeeded()
        fields = dict(zip(reply[::2], reply[1::2], strict=False))
        version = fields.get(b"version", b"0").decode()
        if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_REDIS:
            raise ConfigurationError(f"{self._adapter.endpoint.display} is Redis {version}; 6.2 or newer is needed")

    async def _enter_lifespans(self, stack: AsyncExitStack) -> None:
        """Enter each lifespan once, and note for each class what its own yielded."""
        entered: dict[Any, Any] = {}
        for job_class in self._classes:
            lifespan = job_class.lifespan
            if lifespan is Job.lifespan:
                continue
            if lifespan not in entered:
                entered[lifespan] = await stack.enter_async_context(lifespan())
            self._runtime.states[job_class] = entered[lifespan]


def _is_cancelled() -> bool:
    """Whether the calling task's group is cancelled, and not just the task."""
    return anyio.current_effective_deadline() == -math.inf
