"""Natural batching: while one call is in flight, what arrives waits for the next one.

Idle, an item leaves at once. Busy, batches grow to what arrives during a round trip. Nothing is ever delayed by a timer. The enqueuer
and the settler are both built on this.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

T = TypeVar("T")
A = TypeVar("A")

MAX_JOBS = 1_000
MAX_BYTES = 1 << 20


class Batcher(Generic[T, A]):
    """Gathers what concurrent callers bring, and sends one batch at a time, in order.

    The sending task is the batcher's own: a caller that is cancelled takes nothing down with it. Items whose caller was cancelled before
    they were sent are not sent.

    Args:
        send: sends a batch and returns one answer per item, in order. What it raises is raised to every caller of the batch.
        measure: how many jobs an item holds, and their bytes.
    """

    def __init__(
        self, send: Callable[[list[T]], Awaitable[Sequence[A]]], *, measure: Callable[[T], tuple[int, int]]
    ) -> None:
        self._send = send
        self._measure = measure
        self._waiting: deque[tuple[T, asyncio.Future[A] | None]] = deque()
        self._sender: asyncio.Task[None] | None = None

    def put(self, item: T) -> asyncio.Future[A]:
        """Add an item; the future brings its answer."""
        future: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._sender is None:
            self._start()
        return future

    def add(self, item: T) -> None:
        """Add an item of which nobody waits for the answer."""
        self._waiting.append((item, None))
        if self._sender is None:
            self._start()

    def __len__(self) -> int:
        """How many items wait to be sent."""
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is in flight."""
        return self._sender is None

    async def aclose(self) -> None:
        """Wait until everything that was put is answered."""
        while self._sender is not None:
            await asyncio.wait([self._sender])

    def _start(self) -> None:
        self._sender = asyncio.get_running_loop().create_task(self._drain(), name="aiojobs_rt batcher")

    async def _drain(self) -> None:
        try:
            while self._waiting:
                items, futures = self._next_batch()
                if not items:
                    continue
                try:
                    answers = await self._send(items)
                except asyncio.CancelledError:  # the loop is shutting down
                    for future in futures:
                        if future is not None:
                            future.cancel()
                    raise
                except Exception as error:  # noqa: BLE001 - it belongs to the callers
                    for future in futures:
                        if future is not None and not future.done():
                            future.set_exception(error)
                else:
                    for future, answer in zip(futures, answers, strict=True):
                        if future is not None and not future.done():
                            future.set_result(answer)
        finally:
            self._sender = None
            for _, future in self._waiting:
                if future is not None:
                    future.cancel()
            self._waiting.clear()

    def _next_batch(self) -> tuple[list[T], list[asyncio.Future[A] | None]]:
        items: list[T] = []
        futures: list[asyncio.Future[A] | None] = []
        jobs = total = 0
        while self._waiting:
            item, future = self._waiting[0]
            count, size = self._measure(item)
            jobs += count
            total += size
            if items and (jobs > MAX_JOBS or total > MAX_BYTES):
                break
            self._waiting.popleft()
            if future is None or not future.done():
                items.append(item)
                futures.append(future)
        return items, futures
