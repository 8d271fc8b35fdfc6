"""Phantoms: entries that Redis has delivered to this worker in a reply that was lost. They are found among its own pending entries, and run."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from aiojobs_rt.adapters.redis.keys import GROUP
from aiojobs_rt.worker.served import Delivery
from aiojobs_rt.worker.state import TELL_AGAIN

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiojobs_rt.adapters.redis.connection import Wire
    from aiojobs_rt.worker.served import Served
    from aiojobs_rt.worker.settler import Settler

logger = logging.getLogger("aiojobs_rt.fetcher")

PAGE = 500


async def recover(
    served: Served,
    lane: str,
    *,
    wire: Wire,
    settler: Settler,
    take: Callable[[Served, str, list[Any], float], int],
) -> None:
    """Page through the pending entries of a lane; what is not known is taken, what was settled lately is settled again.

    Known is what was held when a page was asked for, or when it came.
    """
    last: bytes | str = "0"
    while True:
        settled = served.settled_lately(lane)
        known = set(served.held[lane])
        since = time.monotonic()
        key = served.keys.lane(lane)
        reply = await wire.call("XREADGROUP", "GROUP", GROUP, served.consumer, "COUNT", PAGE, "STREAMS", key, last)
        entries: list[Any] = reply[0][1] if reply else []
        if not entries:
            _tell(served)
            return
        last = entries[-1][0]
        known.update(served.held[lane], served.settled_lately(lane))
        unknown = [(entry, fields) for entry, fields in entries if entry not in known]
        for entry, fields in entries:
            if entry in settled and entry not in served.held[lane]:  # by a Redis that has forgotten it since
                delivery = Delivery(served, lane, entry, fields or [], since)
                served.hold(delivery)
                settler.settle_again(delivery, settled[entry])
        gone = [entry for entry, fields in unknown if not fields]
        if gone:
            await wire.call("XACK", key, GROUP, *gone)
        found = [(entry, fields) for entry, fields in unknown if fields]
        if found:
            served.phantoms_untold += len(found)
            take(served, lane, found, since)


def _tell(served: Served) -> None:
    """A log line; where connections are killed again and again, one for all that were found in a few seconds."""
    now = time.monotonic()
    if served.phantoms_untold and now - served.phantoms_told >= TELL_AGAIN:
        logger.warning(
            "queue %s: %d job(s) were delivered here in a reply that was lost; they are run now",
            served.name,
            served.phantoms_untold,
        )
        served.phantoms_told, served.phantoms_untold = now, 0
