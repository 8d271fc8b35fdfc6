"""Import and export: a file of people into a table, row by row, and the table back into a file.

    AIOJOBS_RT_REDIS_URL=embedded://./transfer-data python -m examples.transfer

The import is a job in steps: stopped by a deploy, it goes on at its row.
"""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path

import anyio

from aiojobs_rt import Discard, Job
from examples.here import working

people: dict[str, str] = {}
"""Stands for a table: address -> name."""


class ImportPeople(Job):
    """A row that is imported twice is one row: it is set by its key."""

    queue = "transfer"
    keep_result = 60

    async def perform(self, path: Path) -> int:
        """Give the number of rows."""
        rows = list(csv.DictReader(StringIO(await anyio.Path(path).read_text())))

        async def check() -> None:
            if rows and {"address", "name"} - rows[0].keys():
                raise Discard("it has no columns address and name: another run would not find them either")

        await self.step("check", check)
        async for step in self.step("rows", start=0):
            for row in rows[step.cursor :]:
                people[row["address"]] = row["name"]
                await step.advance()
        return len(rows)


class ExportPeople(Job):
    """Writes the whole file and then gives it its name: nobody finds half of one."""

    queue = "transfer"
    keep_result = 60

    async def perform(self, path: Path) -> int:
        """Give the number of rows."""
        written = StringIO()
        writer = csv.writer(written, lineterminator="\n")
        writer.writerow(("address", "name"))
        writer.writerows(sorted(people.items()))
        half = anyio.Path(f"{path}.part")
        await half.write_text(written.getvalue())
        await half.rename(path)
        return len(people)


async def main(folder: Path = Path()) -> str:
    """Import three people and export them again."""
    source, target = folder / "people.csv", folder / "exported.csv"
    await anyio.Path(source).write_text(
        "address,name\nada@example.com,Ada\ngrace@example.com,Grace\nmary@example.com,Mary\n"
    )
    async with working("transfer"):
        handle = await ImportPeople.perform_later(source)
        await handle.result(timeout=10)
        handle = await ExportPeople.perform_later(target)
        await handle.result(timeout=10)
    return await anyio.Path(target).read_text()


if __name__ == "__main__":
    print(anyio.run(main), end="")
