"""The heartbeat: a thread with a connection of its own, which renews the leases also while the event loop stands still.

* Every third of a lease it renews the lease on each queue. A lease that was lost is reported to the loop.
* A loop that has not moved for a second is reported, with the job that blocks it and its stack, and what waits in the buffer goes
  back to the queue.
* After `stall_limit` it renews no more: a wedged worker loses its jobs in the end.
* It enforces the deadline of the shutdown: `on_deadline` is called from here when the loop does not get there. If the loop stands still,
  the jobs that run are put back first.

A C call that holds the GIL for a whole lease stops this thread too; that is a known limit.
"""

from __future__ import annotations

import logging
import secrets
import sys
import threading
import time
import traceback
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from redis import exceptions
from redis.backoff import NoBackoff
from redis.client import Redis
from redis.connection import ConnectionPool
from redis.retry import Retry

from aiojobs_rt.adapters.redis.connection import AWAY, Away, is_no_master
from aiojobs_rt.adapters.redis.endpoint import sync_kind
from aiojobs_rt.adapters.redis.keys import control_channel
from aiojobs_rt.adapters.redis.scripts import script
from aiojobs_rt.core import events
from aiojobs_rt.core.execution import interrupted
from aiojobs_rt.errors import ConfigurationError
from aiojobs_rt.settings import settings

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Hashable, Sequence
    from types import FrameType

    from aiojobs_rt.core.message import JobMessage
    from aiojobs_rt.worker.buffer import Buffer
    from aiojobs_rt.worker.served import Delivery, Served
    from aiojobs_rt.worker.state import WorkerState

logger = logging.getLogger("aiojobs_rt.heartbeat")

TICK = 0.25
STALL = 1.0
HOPS = 3
OUTAGE = (*AWAY, Away, ConfigurationError)
"""What says that a node is not there, or that its connection is of no use."""


class OnLost(Protocol):
    """Told of a lost lease."""

    def __call__(self, served: Served, consumer: str, *, forgotten: bool) -> None:
        """The lease of this consumer on this queue is lost, or forgotten with all of Redis' data."""


class Heartbeat:
    """Renews the leases of one worker.

    Args:
        state: the worker's.
        loop: the worker's event loop, which must be running in the calling thread.
        buffer: what to put back when the loop stands still.
        stall_limit: seconds.
        on_lost: called in the loop with a queue and the consumer whose lease on it was lost, and whether Redis has forgotten it.
        on_deadline: called in this thread when the shutdown takes longer than it may.
        release: called in the loop with what this thread could not put back, or does not know whether it did.
        running: what runs now.
    """

    def __init__(
        self,
        state: WorkerState,
        *,
        loop: asyncio.AbstractEventLoop,
        buffer: Buffer,
        stall_limit: float,
        on_lost: OnLost,
        on_deadline: Callable[[], None],
        release: Callable[[Delivery], None],
        running: Callable[[], list[Delivery]],
    ) -> None:
        self._state = state
        self._loop = loop
        self._buffer = buffer
        self._stall_limit = stall_limit
        self._on_lost = on_lost
        self._on_deadline = on_deadline
        self._give_back = release
        self._running = running
        self._loop_thread = threading.get_ident()
        self._thread = threading.Thread(target=self._run, name="aiojobs_rt:heartbeat", daemon=True)
        self._stop = threading.Event()
        self._moved_at = time.monotonic()
        self._asked = False
        self._stalled = False
        self._gave_up = False
        self._clients: dict[Hashable, Redis] = {}
        self._call = secrets.token_urlsafe(9)
        self._calls = 0
        self.deadline: float | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stop.set()

    def join(self, timeout: float) -> None:
        """Wait for the thread to end, for so many seconds."""
        self._thread.join(timeout)

    def _run(self) -> None:
        renewed_at = time.monotonic()
        pause = self._state.lease / 3
        while not self._stop.wait(min(TICK, self._state.lease / 12)):
            now = time.monotonic()
            try:
                if self.deadline is not None and now > self.deadline:
                    self.deadline = None
                    self._end(now)
                self._watch_loop(now)
                if now - renewed_at >= pause and not self._gave_up:
                    renewed_at = now
                    pause = self._state.lease / 3 if self._renew_all() else min(1.0, self._state.lease / 12)
            except Exception:
                # without this thread the worker would lose its leases, one after the other
                logger.exception("the heartbeat failed; it goes on")
        for place in list(self._clients):
            self._disconnect(place)

    # -- leases ----------------------------------------------------------------------------------

    def _renew_all(self) -> bool:
        """Renew on every queue; whether all were answered."""
        endpoint = self._state.adapter.endpoint
        away: set[Hashable] = set()
        for served in list(self._state.queues.values()):
            place = endpoint.place(served.name)
            if not served.registered or place in away:
                continue
            try:
                self._renew(served)
            except OUTAGE:
                # the loop's own calls report that Redis is away, and its beat renews when this thread can't
                away.add(place)
            except exceptions.ResponseError:
                pass  # this queue's own trouble, which the beat reports; the leases on the others go on
        return not away

    def _renew(self, served: Served) -> None:
        keys, consumer = served.keys, served.consumer
        sent = time.monotonic()
        state, _ = self._evaluate(
            served.name,
            "renew",
            [keys.workers, keys.grace, keys.wake + consumer, keys.stats],
            [consumer, served.lease_ms(), served.grace_ms(), served.born],
        )
        if state == b"held":
            if served.consumer == consumer:
                served.deadline = sent + served.lease
        else:
            self._loop.call_soon_threadsafe(partial(self._on_lost, served, consumer, forgotten=state == b"forgotten"))

    def _evaluate(self, queue: str, name: str, keys: list[str], arguments: list[Any]) -> Any:
        """Run a script on the node of a queue; what fails as it does when Redis is away is one of OUTAGE, and its connection closed."""
        endpoint = self._state.adapter.endpoint
        found = script(name)
        for _ in range(HOPS):
            place = endpoint.place(queue)
            try:
                execute: Any = self._connect(queue).execute_command
                try:
                    return execute("EVALSHA", found.sha, len(keys), *keys, *arguments)
                except exceptions.NoScriptError:
                    return execute("EVAL", found.source, len(keys), *keys, *arguments)
            except exceptions.AskError as error:  # also MOVED: it is sent to the right node
                if not endpoint.note_error(error):
                    raise Away(str(error), sent=False) from None
            except (*OUTAGE, exceptions.ResponseError) as error:
                if isinstance(error, OUTAGE) or is_no_master(error):
                    endpoint.note_error(error)
                    self._disconnect(place)
                    raise Away(str(error)) from None
                raise
        raise Away(f"queue {queue}: its slot is on its way to another node", sent=False)

    def _connect(self, queue: str) -> Redis:
        endpoint = self._state.adapter.endpoint
        arguments = endpoint.resolve(queue) if endpoint.clustered or not self._clients else {}
        place = endpoint.place(queue)
        client = self._clients.get(place)
        if client is None:
            kind: Any = sync_kind(arguments)
            patience = max(0.5, min(5.0, self._state.lease / 6))
            arguments.update(
                socket_timeout=patience,
                socket_connect_timeout=patience,
                retry=Retry(NoBackoff(), 0),
                protocol=2,
                driver_info=None,
                redis_connect_func=_greet,
            )
            client = self._clients[place] = Redis(
                connection_pool=ConnectionPool(connection_class=kind, max_connections=1, **arguments)
            )
        return client

    def _disconnect(self, place: Hashable) -> None:
        client = self._clients.pop(place, None)
        if client is not None:
            client.connection_pool.disconnect()
            client.close()

    # -- the loop --------------------------------------------------------------------------------

    def _watch_loop(self, now: float) -> None:
        if not self._asked:
            self._asked = True
            self._moved_at = now
            try:
                self._loop.call_soon_threadsafe(self._moved)
            except RuntimeError:  # the loop is closed
                self._stop.set()
            return
        silent = now - self._moved_at
        if silent > STALL and not self._stalled:
            self._stalled = True
            self._report_stall(silent)
            self._put_back_buffer()
        if silent > self._stall_limit and not self._gave_up:
            self._gave_up = True
            logger.critical(
                "the event loop has stood still for %.0f s (stall_limit): the leases are no longer renewed, and other workers take "
                "over this worker's jobs",
                silent,
            )

    def _moved(self) -> None:
        self._asked = False
        if self._stalled:
            logger.warning("the event loop moves again after %.1f s", time.monotonic() - self._moved_at)
        self._stalled = self._gave_up = False

    def _report_stall(self, silent: float) -> None:
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - the documented way to another thread's stack
        if frame is None:
            return
        message = _message_of(frame)
        job = "" if message is None else f"job {message.id} ({message.job})"
        stack = "".join(traceback.format_stack(frame, limit=12))
        logger.error(
            "the event loop has stood still for %.1f s: %s blocks it; move blocking work to a thread "
            "(await anyio.to_thread.run_sync(...)). Its stack:\n%s",
            silent,
            job or "something that is no job",
            stack,
        )
        if events.subscribed:
            if message is None:
                events.publish("stalled", "", "", "", duration=silent, details={"stack": stack})
            else:
                events.tell("stalled", message, duration=silent, details={"stack": stack})

    def _put_back_buffer(self) -> None:
        taken = self._buffer.drain()
        by_queue: dict[str, list[Delivery]] = {}
        for delivery in taken:
            if delivery.consumer == delivery.served.consumer:
                delivery.gone = True
                by_queue.setdefault(delivery.served.name, []).append(delivery)
        for deliveries in by_queue.values():
            try:
                self._release(deliveries)
            except (*OUTAGE, exceptions.RedisError) as error:
                # it may have been done all the same: run here, they would run twice
                logger.warning("the buffer could not be put back: %s; it is tried again when the loop moves", error)
                self._loop.call_soon_threadsafe(self._release_again, deliveries)

    def _end(self, now: float) -> None:
        """The shutdown has taken as long as it may: whoever waits for this process waits no longer."""
        if self._stalled:
            logger.error(
                "the event loop has stood still for %.1f s, also while the worker was to stop", now - self._moved_at
            )
            self._put_back_running()
        why = "has not ended" if self._stalled else "ignores its cancellation"
        for delivery in self._running():
            if (message := delivery.message) is not None:
                logger.error("job %s (%s) %s, and the worker stops", message.id, message.job, why)
        self._on_deadline()

    def _put_back_running(self) -> None:
        by_queue: dict[str, list[Delivery]] = {}
        for delivery in self._running():
            if not delivery.gone and delivery.message is not None and delivery.consumer == delivery.served.consumer:
                delivery.gone = True
                by_queue.setdefault(delivery.served.name, []).append(delivery)
        for deliveries in by_queue.values():
            try:
                self._release(
                    deliveries, [interrupted(found.message).message.meta() for found in deliveries if found.message]
                )
            except (*OUTAGE, exceptions.RedisError) as error:
                for delivery in deliveries:
                    delivery.gone = False
                logger.warning(
                    "running jobs could not be put back: %s; they are reclaimed when the lease has passed", error
                )

    def _release_again(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            delivery.gone = False
            self._give_back(delivery)

    def _release(self, deliveries: list[Delivery], metas: Sequence[bytes] = ()) -> None:
        served = deliveries[0].served
        keys, options = served.keys, settings()
        self._calls += 1
        arguments: list[Any] = [
            self._calls, control_channel(self._state.adapter.prefix), served.name, options.recent, options.dead_max_jobs,
            int(options.dead_max_age * 1000),
        ]  # fmt: skip
        lanes = sorted({delivery.lane for delivery in deliveries})
        arguments.append(len(lanes))
        for lane in lanes:
            arguments += (lane, "", "released")
        for delivery, meta in zip(deliveries, metas or [b""] * len(deliveries), strict=True):
            arguments += (lanes.index(delivery.lane) + 1, delivery.entry, delivery.job_id, b"", meta, b"", b"", b"")
        self._evaluate(
            served.name,
            "settle",
            [
                keys.stream, keys.index, keys.call + self._call, keys.recent, keys.stats, keys.retries, keys.parked, keys.dead,
                keys.cancelled, keys.lanes, keys.outgoing, keys.scheduled, keys.result, keys.errors, keys.moved,
            ],
            arguments,
        )  # fmt: skip
        self._loop.call_soon_threadsafe(_let_go, deliveries)


def _greet(connection: Any) -> None:
    """Make a new connection ready, and name it; a user who may not is served all the same.

    The name is asked for here and not later: its answer takes what TLS sends after the handshake with it, which redis-py's pool would take for
    a reply that nobody has read, and refuse the connection.
    """
    connection.on_connect()
    connection.send_command("CLIENT", "SETNAME", "aiojobs_rt:heartbeat")
    with suppress(exceptions.NoPermissionError):
        connection.read_response()


def _let_go(deliveries: list[Delivery]) -> None:
    for delivery in deliveries:
        delivery.served.drop(delivery.lane, [delivery.entry])


def _message_of(frame: FrameType | None) -> JobMessage | None:
    """That of the job whose run is on a stack: the `message` of `execute`."""
    while frame is not None:
        if frame.f_code.co_name == "execute" and frame.f_code.co_filename.endswith("execution.py"):
            message: JobMessage | None = frame.f_locals.get("message")
            if message is not None:
                return message
        frame = frame.f_back
    return None
