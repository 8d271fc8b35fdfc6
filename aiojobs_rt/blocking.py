"""Enqueueing from synchronous code: scripts, threads, Django's sync views.

    from aiojobs_rt import blocking

    handle = blocking.perform_later(SendWelcome.bind(42))
    handle.result(timeout=5)

Everything runs in one background thread with an event loop of its own, started at the first call and ended with the process; so all
threads share connections, and what they enqueue at the same time goes out together. A forked child starts its own.
"""

from __future__ import annotations

import asyncio
import atexit
import importlib.util
import os
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio
from anyio.from_thread import BlockingPortal

from aiojobs_rt.core.propagation import for_another_thread
from aiojobs_rt.enqueue import Bound, checked, deliver, described
from aiojobs_rt.enqueue import perform_all_later as _perform_all_later

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from datetime import timedelta

    from aiojobs_rt.adapters.base import Status
    from aiojobs_rt.core.progress import Progress
    from aiojobs_rt.handle import JobHandle

__all__ = ["BlockingHandle", "perform_all_later", "perform_later"]

R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")


class BlockingHandle(Generic[R_co]):
    """A `JobHandle` whose methods block instead of being awaited.

    Attributes:
        id: the job's id.
        enqueued: as `JobHandle.enqueued`.
    """

    __slots__ = ("_handle", "enqueued", "id")

    def __init__(self, handle: JobHandle[R_co]) -> None:
        self._handle = handle
        self.id = handle.id
        self.enqueued = handle.enqueued

    @property
    def queue(self) -> str:
        """The queue on which the job was enqueued."""
        return self._handle.queue

    def status(self) -> Status:
        """Where the job is now; see `JobHandle.status`."""
        return call(self._handle.status, "handle.status()")

    def progress(self) -> Progress | None:
        """How far a job in steps has got; see `JobHandle.progress`."""
        return call(self._handle.progress, "handle.progress()")

    def cancel(self) -> bool:
        """Cancel the job; see `JobHandle.cancel`."""
        return call(self._handle.cancel, "handle.cancel()")

    def result(self, timeout: float | timedelta | None = None) -> R_co:
        """Wait for the job to end and return what `perform` returned; arguments and errors as of `JobHandle.result`."""
        return call(lambda: self._handle.result(timeout=timeout), "handle.result()")

    def __repr__(self) -> str:
        return f"BlockingHandle({self.id!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BlockingHandle) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)


def perform_later(job: Bound[R_co]) -> BlockingHandle[R_co]:
    """Enqueue a job; returns as soon as it is in Redis.

    Args:
        job: from `Job.bind(...)` or `Job.set(...).bind(...)`.

    Raises:
        RuntimeError: an event loop runs in this thread; the message says what to await instead.
        EnqueueError: see `Job.perform_later`. After a KeyboardInterrupt the job may or may not have been enqueued.
    """
    if not isinstance(job, Bound):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
        raise TypeError(f"perform_later takes a bound job, such as SendWelcome.bind(42), got {described(job)}")
    name = job.job.__name__
    return BlockingHandle(call(lambda: deliver(job), f"{name}.perform_later(...)"))


def perform_all_later(
    jobs: Iterable[Bound[Any]], *, spread: float | timedelta | None = None
) -> list[BlockingHandle[Any]]:
    """Enqueue many jobs, as `aiojobs_rt.perform_all_later` does; one handle per job, in order.

    Raises:
        RuntimeError: an event loop runs in this thread.
        EnqueueError: not all of them are known to be enqueued. Slices before the one that failed are.
        TypeError: one of `jobs` is not bound, or `spread` is no duration.
        ValueError: `spread` is negative, not finite, or longer than a hundred years.
    """
    bound = checked(jobs)
    return [
        BlockingHandle(handle)
        for handle in call(lambda: _perform_all_later(bound, spread=spread), "perform_all_later(...)")
    ]


class _Thread:
    """The background thread of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = 0
        self._portal: BlockingPortal | None = None

    def portal(self) -> BlockingPortal:
        with self._lock:
            if self._portal is None or self._pid != os.getpid():  # the parent's thread is not in a forked child
                started: Future[BlockingPortal] = Future()
                thread = threading.Thread(target=_run, args=(started,), name="aiojobs_rt:blocking", daemon=True)
                thread.start()
                self._portal, self._pid = started.result(), os.getpid()
                atexit.register(self._close, self._pid, thread)
            return self._portal

    def renew_lock(self) -> None:
        """In a forked child: another thread of the parent may have held it."""
        self._lock = threading.Lock()

    def _close(self, pid: int, thread: threading.Thread) -> None:
        portal, self._portal = self._portal, None
        if portal is not None and pid == os.getpid():
            portal.call(portal.stop)
            thread.join()


def _run(started: Future[BlockingPortal]) -> None:
    async def run_portal() -> None:
        async with BlockingPortal() as portal:
            started.set_result(portal)
            await portal.sleep_until_stopped()

    try:
        anyio.run(run_portal, backend_options={"use_uvloop": importlib.util.find_spec("uvloop") is not None})
    except BaseException as error:
        if started.done():
            raise
        started.set_exception(error)


_thread = _Thread()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_thread.renew_lock)


def call(function: Callable[[], Awaitable[T]], what: str) -> T:
    """Call a coroutine function in the background thread and wait for what it returns.

    Args:
        function: called there, with this thread's context variables.
        what: as one would write it where a loop runs, for the refusal.

    Raises:
        RuntimeError: an event loop runs in this thread.
    """
    refuse_in_loop(f"a blocking call; write `await {what}`")
    return for_another_thread().run(_thread.portal().call, function)


def refuse_in_loop(what: str) -> None:
    """Raise when an event loop runs in this thread: what blocks would stop it.

    Raises:
        RuntimeError: names what was tried, and what to do instead.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(f"an event loop runs in this thread, and would stand still during {what}")
