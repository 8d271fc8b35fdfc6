"""When a fault comes: at once in the ordinary suite; with `-m long` many times over, each at a moment of its own.

A test takes the fixture `moment` (`tests/faults/conftest.py`) and awaits it before it does its harm:

    await fleet.written("start", 1)
    await moment(0.3)
    victim.kill()

The moments follow from a seed that is printed; `AIOJOBS_RT_TEST_SEED=N pytest -m long ...` has the same ones again.
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
        name: what its moments follow from, beside the seed; empty: none, it returns at once.
    """

    def __init__(self, name: str = "") -> None:
        self._chance = random.Random(f"{seed()} {name}") if name else None

    async def __call__(self, most: float) -> None:
        if self._chance is not None:
            await asyncio.sleep(self._chance.uniform(0, most))


def seed() -> str:
    """That of this session; the processes of pytest-xdist inherit it."""
    return os.environ.setdefault(SEED, str(random.SystemRandom().randrange(1_000_000)))


def times() -> int:
    return int(os.environ.get(TIMES, "20"))
