"""How slots share the loop's time."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from aiojobs_rt.worker.buffer import Buffer
from aiojobs_rt.worker.slots import Slot, Slots


@pytest.mark.timeout(5)
async def test_a_slot_ends_with_its_buffer_though_another_lets_the_loop_turn() -> None:
    """It must not lie down again and again: the loop would never turn."""
    buffer = Buffer()
    slots = Slots(1, buffer=buffer, settler=Mock(), runtime=Mock(), progress=Mock())
    buffer.turning = True
    buffer.close()
    await slots._run_slot(Slot(), Mock())
    assert buffer.idle == 0
