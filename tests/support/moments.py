"""When a fault comes: at once in the ordinary suite; with `-m long` many times over, each at a moment of its own.

A test takes the fixture `moment` (`tests/faults/conftest.py`) and awaits it before it does its harm:

    await fleet.written("start", 1)
    await moment(0.3)
    victim.kill()

The moments follow from a seed that is printed, as do the chaos run and the search of the state machine; `AIOJOBS_RT_TEST_SEED=N pytest -m
long ...` has the same ones again.
"""

from __future__ import annotations

import asyncio
import os
import random

SEED = "AIOJOBS_RT_TEST_SEED"
TIMES = "AIOJOBS_RT_TEST_TIMES"
"""The environment variable that says how often each of these tests runs with `-m long`; default: 20."""


class Moment:
    """`await moment(most)` takes up to `most` seconds.

    Args:
        chance: what its moments are taken from; None: it returns at once.
    """

    def __init__(self, chance: random.Random | None = None) -> None:
        self._chance = chance

    async def __call__(self, most: float) -> None:
        if self._chance is not None:
            await asyncio.sleep(self._chance.uniform(0, most))


def seed() -> int:
    """That of this session, printed: pytest shows it when a test fails. The processes of pytest-xdist may each have their own."""
    found = os.environ.setdefault(SEED, str(random.SystemRandom().randrange(1_000_000)))
    print(f"{SEED}={found}")  # noqa: T201 - as it says
    return int(found)


def times() -> int:
    return int(os.environ.get(TIMES, "20"))
