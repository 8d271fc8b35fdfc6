"""The control channel: rare messages to all workers. Each is also found by the next beat, should it be lost.

`due QUEUE MS` an earlier due time, `lane QUEUE` a first job on a new lane, `cancel QUEUE ID`, `pause QUEUE`, `resume QUEUE`, `quiet WORKER`.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from aiojobs_rt.adapters.redis.keys import control_channel
from aiojobs_rt.adapters.redis.subscriber import Subscriber

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiojobs_rt.worker.promoter import Promoter
    from aiojobs_rt.worker.reclaimer import Reclaimer
    from aiojobs_rt.worker.served import Served
    from aiojobs_rt.worker.state import WorkerState

logger = logging.getLogger("aiojobs_rt.control")

DUE = re.compile(r"[0-9]{1,18}")
"""An instant in ms. What is no number, or one that no clock reaches, was not sent by a script."""


class Control:
    """Listens for one worker.

    Args:
        state: the worker's.
        promoter: is told of earlier due times.
        reclaimer: looks again, soon, after a change of lanes.
        on_cancel: interrupts a job that is cancelled.
        on_lane: is told of a queue that has a new lane.
        on_quiet: makes the worker quiet.
    """

    def __init__(
        self,
        state: WorkerState,
        *,
        promoter: Promoter,
        reclaimer: Reclaimer,
        on_cancel: Callable[[Served, str], None],
        on_lane: Callable[[Served], None],
        on_quiet: Callable[[], None],
    ) -> None:
        self._state = state
        self._promoter = promoter
        self._reclaimer = reclaimer
        self._on_cancel = on_cancel
        self._on_lane = on_lane
        self._on_quiet = on_quiet
        self._subscriber = Subscriber(state.adapter.endpoint, "aiojobs_rt:control")

    async def start(self) -> None:
        """Begin to listen."""
        await self._subscriber.listen(control_channel(self._state.adapter.prefix), self._receive)

    async def aclose(self) -> None:
        """Stop listening."""
        await self._subscriber.aclose()

    def _receive(self, payload: bytes) -> None:
        kind, _, rest = payload.decode(errors="replace").partition(" ")
        name, _, detail = rest.partition(" ")
        if kind == "quiet":
            if name == self._state.name:
                self._on_quiet()
            return
        served = self._state.queues.get(name)
        if served is None:
            return
        if kind == "due":
            if DUE.fullmatch(detail):
                self._promoter.note_due(name, int(detail))
        elif kind == "cancel":
            self._on_cancel(served, detail)
        elif kind == "lane":
            self._on_lane(served)
        elif kind in ("pause", "resume"):
            served.paused = kind == "pause"
            self._on_lane(served)
        else:
            logger.debug("unknown control message %r", kind)
