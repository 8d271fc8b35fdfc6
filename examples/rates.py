"""Calls of somebody else's API: it limits how often it is asked, it is away at times, and it answers nonsense at times.

AIOJOBS_RT_REDIS_URL=embedded://./rates-data python -m examples.rates
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

import anyio

from aiojobs_rt import Job, discard_on, polynomially_longer, retry_on
from examples.here import working


class TooManyRequests(Exception):
    """The service says when to ask again."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"again in {retry_after:g} s")
        self.retry_after = retry_after


class NoSuchCurrency(LookupError):
    """The service does not know it, and will not."""


@dataclass
class Service:
    """Stands for an HTTP client.

    Attributes:
        refusals: how many of the next calls it refuses.
        calls: how many there were.
    """

    refusals: int = 0
    calls: int = 0
    rates: dict[str, Decimal] = field(default_factory=lambda: {"USD": Decimal("1.0842"), "CHF": Decimal("0.9312")})

    async def rate(self, currency: str) -> Decimal:
        """Ask for a rate."""
        self.calls += 1
        if self.refusals:
            self.refusals -= 1
            raise TooManyRequests(0.05)
        if currency not in self.rates:
            raise NoSuchCurrency(currency)
        return self.rates[currency]


service = Service()
known: dict[str, Decimal] = {}


@retry_on(OSError, wait=polynomially_longer, attempts=8)
@retry_on(TooManyRequests, wait=lambda _, error: error.retry_after, attempts=20)
@discard_on(NoSuchCurrency)
class FetchRate(Job):
    """Fetched twice, it is the same rate."""

    queue = "rates"
    timeout = 10
    keep_result = 60

    async def perform(self, currency: str) -> Decimal:
        """Give the rate."""
        known[currency] = await service.rate(currency)
        return known[currency]


async def main(refusals: int = 2) -> dict[str, Decimal]:
    """Fetch two rates from a service that refuses the first calls."""
    service.refusals = refusals
    async with working("rates"):
        handles = [await FetchRate.perform_later(currency) for currency in ("USD", "CHF")]
        for handle in handles:
            await handle.result(timeout=10)
    return known


if __name__ == "__main__":
    print(anyio.run(main))
