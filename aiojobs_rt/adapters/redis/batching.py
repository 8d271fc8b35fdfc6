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

    A caller that is cancelled takes nothing down with it: a batch is begun without anybody waiting for it, or sent by a task of the
    batcher's own. Items whose caller was cancelled before they were sent are not sent.

    Args:
        send: sends a batch and returns one answer per item, in order; None when nobody waits for answers. An answer that is an exception
            is raised to its caller, what `send` raises to every caller of the batch.
        begin: begins to send a batch, if that takes no waiting; else it returns False, and `send` is given the batch. It has the second
            argument called later with the answers; or with None, and then `send` is given the same batch, unless nobody waits for it any
            more. It raises nothing.
        most: says how many jobs the next batch may hold, if it has more than one item; None: 1,000.
    """

    def __init__(
        self,
        send: Callable[[list[T]], Awaitable[Sequence[Any] | None]],
        *,
        begin: Callable[[list[T], Callable[[Sequence[Any] | None], None]], bool] | None = None,
        most: Callable[[], int] | None = None,
    ) -> None:
        self._send = send
        self._most = most
        self._begin = begin
        self._waiting: deque[T] = deque()
        self._under_way: list[T] = []
        self._sender: asyncio.Task[None] | None = None
        self._asked = False  # whether anybody ever waited for an answer
        self._busy = False
        self._idle: asyncio.Future[None] | None = None
        self._crowded = False

    def put(self, item: T) -> asyncio.Future[Any]:
        """Add an item; the future brings its answer."""
        self._asked = True
        future = item.answered = asyncio.get_running_loop().create_future()
        self.add(item)
        return future

    def add(self, item: T) -> None:
        """Add an item of which nobody waits for the answer."""
        self._waiting.append(item)
        if self._busy:
            return
        self._busy = True
        if self._begin is None:
            self._start([])
        else:
            self._go_on()

    def __len__(self) -> int:
        """How many items wait to be sent."""
        return len(self._waiting)

    async def aclose(self) -> None:
        """Wait until everything that was put is answered."""
        while self._busy:
            if self._idle is None:
                self._idle = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._idle])

    async def abandon(self) -> None:
        """Stop sending. What was not answered never is: its callers are cancelled."""
        if (sender := self._sender) is not None:
            sender.cancel()
            await asyncio.wait([sender])

    def _go_on(self) -> None:
        """Begin with the next batch: at once, or after those who were answered together and are about to come again."""
        if self._crowded:
            asyncio.get_running_loop().call_soon(self._next, context=Context())
        else:
            self._next()

    def _next(self) -> None:
        """Begin with the next batch."""
        items = self._next_batch()
        while not items and self._waiting:
            items = self._next_batch()
        if not items:
            self._rest()
            return
        self._under_way = items
        assert self._begin is not None  # noqa: S101 - else the task does it
        if not self._begin(items, self._ended):
            self._start(items)

    def _ended(self, answers: Sequence[Any] | None) -> None:
        """What was begun is answered, or not."""
        items, self._under_way = self._under_way, []
        self._crowded = len(items) > 1 or bool(self._waiting)
        if answers is not None:
            _answer(items, answers)
        elif any(_is_awaited(item) for item in items):
            self._start(items)
            return
        if self._waiting:
            self._go_on()
        else:
            self._rest()

    def _start(self, items: list[T]) -> None:
        # in a context of its own: what it logs is not about the job, or the request, that happened to bring the first item
        self._sender = asyncio.get_running_loop().create_task(
            self._drain(items), name="aiojobs_rt batcher", context=Context()
        )

    def _rest(self) -> None:
        self._busy = False
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
        self._idle = None

    async def _drain(self, items: list[T]) -> None:
        try:
            while items or self._waiting:
                items = items or self._next_batch()
                if not items:
                    continue
                try:
                    answers = await self._send(items)
                except Exception as error:  # noqa: BLE001 - it belongs to the callers
                    answers = [error] * len(items)
                if answers is not None:
                    _answer(items, answers)
                self._crowded = len(items) > 1 or bool(self._waiting)
                items = []
                if self._begin is not None:
                    break
        finally:
            self._sender = None
            if items:  # the loop is shutting down
                for item in (*items, *self._waiting):
                    if item.answered is not None:
                        item.answered.cancel()
                self._waiting.clear()
            if self._waiting:
                self._go_on()
            else:
                self._rest()

    def _next_batch(self) -> list[T]:
        waiting = self._waiting
        if len(waiting) == 1:
            item = waiting.popleft()
            return [item] if _is_awaited(item) else []
        most = MAX_JOBS if self._most is None else self._most()
        items = list(islice(waiting, most))
        if sum(map(_jobs, items)) > most or sum(map(_size, items)) > MAX_BYTES:
            jobs = size = 0
            for count, item in enumerate(items):
                jobs += item.jobs
                size += item.size
                if count and (jobs > most or size > MAX_BYTES):
                    del items[count:]
                    break
        if len(items) == len(waiting):
            waiting.clear()
        else:
            for _ in items:
                waiting.popleft()
        if not self._asked:
            return items
        return [item for item in items if _is_awaited(item)]


def _is_awaited(item: Item) -> bool:
    """Whether anybody waits for it, or nobody ever did."""
    return item.answered is None or not item.answered.done()


def _answer(items: Sequence[Item], answers: Sequence[Any]) -> None:
    for item, answer in zip(items, answers, strict=True):
        if item.answered is None or item.answered.done():
            continue
        if isinstance(answer, Exception):
            item.answered.set_exception(answer)
        else:
            item.answered.set_result(answer)
