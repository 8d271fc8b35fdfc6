"""The time of in-process adapters, in ms since the epoch: the system's, or one that tests turn."""

from __future__ import annotations

import time


class SystemClock:
    """The system's time."""

    def now_ms(self) -> int:
        """The time."""
        return time.time_ns() // 1_000_000


class VirtualClock(SystemClock):
    """Goes with the system's time, from wherever it was set last; stands still while it is held."""

    def __init__(self) -> None:
        self._ahead_ms = 0
        self._held_ms: int | None = None

    def now_ms(self) -> int:
        """The time."""
        return super().now_ms() + self._ahead_ms if self._held_ms is None else self._held_ms

    def hold(self, at_ms: int) -> None:
        """Stand still at an instant, until held at another, or let go."""
        self._held_ms = at_ms

    def let_go(self) -> None:
        """Go on from where it is held."""
        if self._held_ms is not None:
            self._ahead_ms = self._held_ms - super().now_ms()
            self._held_ms = None
