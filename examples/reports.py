"""Reports: a page takes an order for one and shows its progress; a job makes it, and keeps where it lies as its result.

AIOJOBS_RT_REDIS_URL=embedded://./reports-data python -m examples.reports
"""

from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path

import anyio

from aiojobs_rt import Job
from examples.here import working

SALES = [(date(2026, month, 1 + n), f"item {n % 3}", 100 * n) for month in (1, 2) for n in range(20)]


class MonthlyReport(Job):
    """Asked for twice, it writes the same file twice."""

    queue = "reports"
    keep_result = 3600
    timeout = 600

    async def perform(self, year: int, month: int, folder: Path) -> Path:
        """Give the file."""
        cents: Counter[str] = Counter()
        for day, item, amount in SALES:
            if (day.year, day.month) == (year, month):
                cents[item] += amount
        lines = [f"{item},{amount / 100:.2f}" for item, amount in sorted(cents.items())]
        target = folder / f"sales-{year}-{month:02}.csv"
        await anyio.Path(target).write_text("item,sales\n" + "\n".join(lines) + "\n")
        return target


async def main(folder: Path = Path()) -> Path:
    """Order the report of February 2026 and wait for it."""
    async with working("reports"):
        handle = await MonthlyReport.perform_later(2026, 2, folder)
        return await handle.result(timeout=10)


if __name__ == "__main__":
    print(anyio.run(main))
