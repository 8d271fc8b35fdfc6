"""Moments follow from the seed, and there are none in the ordinary suite."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from tests.support.moments import SEED, Moment, seed

if TYPE_CHECKING:
    import pytest


async def test_the_same_seed_has_the_same_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    for number in (7, 7, 8):
        moment = Moment(random.Random(number))
        await moment(1)
        await moment(0.1)
    assert slept[:2] == slept[2:4] != slept[4:]
    assert slept[1] <= 0.1
    await Moment()(1)
    assert len(slept) == 6


def test_the_seed_is_that_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(SEED, "42")
    assert seed() == 42
    assert f"{SEED}=42" in capsys.readouterr().out
