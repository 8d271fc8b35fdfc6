"""Natural batching: while one call is in flight, what arrives waits for the next one.

Idle, an item leaves at once. Busy, batches grow to what arrives during a round trip. Nothing is ever delayed by a timer. The enqueuer
and the settler are both built on this.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import Context
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence


class Item(Protocol):
    """What is batched.

    Attributes:
        jobs: how many jobs it holds.
        size: its bytes, about.
        answered: brings the answer to who waits for it, if anyone does.
    """

    jobs: int
    size: int
    answered: asyncio.Future[Any] | None


T = TypeVar("T", bound=Item)

_jobs, _size = attrgetter("jobs"), attrgetter("size")

MAX_JOBS = 1_000
MAX_BYTES = 1 << 20


class Batcher(Generic[T]):
    """Gathers what concurrent callers bring, and sends one batch at a time, in order.

    The sending task is the batcher's own: a caller that is cancelled takes nothing down with it. Items whose caller was cancelled before
    they were sent are not sent.

    Args:
        send: sends a batch and returns one answer per item, in order; None when nobody waits for answers. An answer that is an exception
            is raised to its caller, what `send` raises to every caller of the batch.
    """

    def __init__(self, send: Callable[[list[T]], Awaitable[Sequence[Any] | None]]) -> None:
        self._send = send
        self._waiting: deque[T] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._asked = False  # whether anybody ever waited for an answer

    def put(self, item: T) -> asyncio.Future[Any]:
        """Add an item; the future brings its answer."""
        self._asked = True
        future = item.answered = asyncio.get_running_loop().create_future()
        self.add(item)
        return future

    def add(self, item: T) -> None:
        """Add an item of which nobody waits for the answer."""
        self._waiting.append(item)
        if self._sender is None:
            # in a context of its own: what it logs is not about the job, or the request, that happened to bring the first item
            self._sender = asyncio.get_running_loop().create_task(
                self._drain(), name="aiojobs_rt batcher", context=Context()
            )

    def __len__(self) -> int:
        """How many items wait to be sent."""
        return len(self._waiting)

    async def aclose(self) -> None:
        """Wait until everything that was put is answered."""
        while self._sender is not None:
            await asyncio.wait([self._sender])

    async def abandon(self) -> None:
        """Stop sending. What was not answered never is: its callers are cancelled."""
        if (sender := self._sender) is not None:
            sender.cancel()
            await asyncio.wait([sender])

    async def _drain(self) -> None:
        items: list[T] = []
        try:
            while self._waiting:
                items = self._next_batch()
                if not items:
                    continue
                try:
                    answers = await self._send(items)
                except Exception as error:  # noqa: BLE001 - it belongs to the callers
                    for item in items:
                        if item.answered is not None and not item.answered.done():
                            item.answered.set_exception(error)
                    continue
                if answers is not None:
                    for item, answer in zip(items, answers, strict=True):
                        if item.answered is None or item.answered.done():
                            continue
                        if isinstance(answer, Exception):
                            item.answered.set_exception(answer)
                        else:
                            item.answered.set_result(answer)
        finally:
            # empty, unless the loop is shutting down
            self._sender = None
            for item in (*items, *self._waiting):
                if item.answered is not None:
                    item.answered.cancel()
            self._waiting.clear()

    def _next_batch(self) -> list[T]:
        waiting = self._waiting
        items = list(islice(waiting, MAX_JOBS))
        if sum(map(_jobs, items)) > MAX_JOBS or sum(map(_size, items)) > MAX_BYTES:
            jobs = size = 0
            for count, item in enumerate(items):
                jobs += item.jobs
                size += item.size
                if count and (jobs > MAX_JOBS or size > MAX_BYTES):
                    del items[count:]
                    break
        if len(items) == len(waiting):
            waiting.clear()
        else:
            for _ in items:
                waiting.popleft()
        if not self._asked:
            return items
        return [item for item in items if item.answered is None or not item.answered.done()]
