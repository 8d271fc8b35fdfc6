"""A newsletter to many subscribers: one job per letter, delays spread over two seconds, a service that sometimes fails.

    AIOJOBS_RT_REDIS_URL=embedded://./newsletter-data python -m examples.newsletter

It enqueues the letters and runs a worker in its own event loop until all are sent.
"""

from __future__ import annotations

import logging
import random
import sys

import anyio

from aiojobs_rt import Job, perform_all_later, retry_on
from examples.here import working

LETTERS = 200
SPREAD = 2.0


class ServiceBusy(Exception):
    """The mail service asks to come back later."""


@retry_on(ServiceBusy, wait=lambda executions, _: 0.1 * executions, attempts=20)
class SendLetter(Job):
    """One letter to one subscriber."""

    queue = "newsletter"
    keep_result = 60
    timeout = 10

    async def perform(self, subscriber: int, issue: str) -> int:
        """Send it; gives the run at which that worked."""
        if random.random() < 0.2:  # noqa: S311 - no secret
            raise ServiceBusy
        self.logger.debug("issue %s to %d", issue, subscriber)
        return self.executions


async def main(letters: int = LETTERS, spread: float = SPREAD) -> list[int]:
    """Enqueue the letters, due one after another within `spread` seconds; the run at which each was sent."""
    handles = await perform_all_later(
        [SendLetter.set(wait=spread * n / letters).bind(n, "spring") for n in range(letters)]
    )
    runs: list[int] = []
    async with working("newsletter"):
        for handle in handles:
            runs.append(await handle.result(timeout=60))  # noqa: PERF401 - one after another, as they are due
    return runs


if __name__ == "__main__":
    logging.basicConfig(level="INFO")
    logging.getLogger("aiojobs_rt.settler").setLevel("ERROR")
    runs = anyio.run(main)
    print(f"{len(runs)} letters sent; the most obstinate needed {max(runs)} runs", file=sys.stderr)
