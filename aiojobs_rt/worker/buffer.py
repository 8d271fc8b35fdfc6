"""The buffer between fetcher and slots: what was read and waits for a slot.

It also divides the loop's time. Jobs that never wait would let one slot run for ever: after a millisecond of them a slot lets the loop
turn, so that replies are read and outcomes sent, and slots that are woken meanwhile lie down again. Slots are woken two by two, each
waking two more while there is something to take: fast jobs keep few slots busy, slow ones soon have them all.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiojobs_rt.worker.served import Delivery

TURN = 0.001
"""For so long a slot runs jobs that never wait."""


class Buffer:
    """First in, first out. Slots that find it empty wait; the fetcher waits until it runs low.

    Attributes:
        low: the fetcher is woken when no more than so many are left.
        ran_low: set then, and when a slot waits.
        turning: a slot lets the loop turn at the moment.
        closed: the slots are to end.
    """

    __slots__ = ("_deliveries", "_waiting", "closed", "low", "ran_low", "turning")

    def __init__(self) -> None:
        self._deliveries: deque[Delivery] = deque()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.low = 0
        self.ran_low = asyncio.Event()
        self.turning = False
        self.closed = False

    def __len__(self) -> int:
        return len(self._deliveries)

    @property
    def idle(self) -> int:
        """How many slots wait for a job."""
        return len(self._waiting)

    def put(self, deliveries: Iterable[Delivery]) -> None:
        """Add what was read, in order."""
        self._deliveries.extend(deliveries)
        self._wake_two()

    def pop(self) -> Delivery | None:
        """The next one, or None."""
        deliveries = self._deliveries
        if len(deliveries) <= self.low:
            self.ran_low.set()
        try:
            return deliveries.popleft()
        except IndexError:
            return None

    async def wait(self) -> None:
        """Wait until there may be something, or the buffer is closed."""
        if self.closed:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self.ran_low.set()
        try:
            await future
        except BaseException:
            if future in self._waiting:
                self._waiting.remove(future)
            else:
                self._wake_two()  # this wake was for a slot that goes on
            raise
        if len(self._deliveries) > 1:
            self._wake_two()

    async def turn(self) -> None:
        """Let the loop turn once."""
        self.turning = True
        try:
            await asyncio.sleep(0)
        finally:
            self.turning = False
            self._wake_two()

    def drain(self, *, older_than: float | None = None) -> list[Delivery]:
        """Take out everything, or what was read before an instant (time.monotonic())."""
        taken: list[Delivery] = []
        deliveries = self._deliveries
        while deliveries and (older_than is None or deliveries[0].since < older_than):
            try:
                taken.append(deliveries.popleft())
            except IndexError:  # the heartbeat thread takes from it too while the loop stands still
                break
        return taken

    def close(self) -> None:
        """Let the slots end once it is empty."""
        self.closed = True
        while self._waiting:
            self._wake()

    def _wake_two(self) -> None:
        if self._waiting and self._deliveries:
            self._wake()
            if len(self._deliveries) > 1:
                self._wake()

    def _wake(self) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                return
