"""`demo`: see it work."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer


def demo(
    jobs: Annotated[int, typer.Option(min=10, help="How many jobs to enqueue.")] = 300,
    directory: Annotated[
        Path | None,
        typer.Option(file_okay=False, show_default="./demo-data", help="Where the pictures and thumbnails go."),
    ] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", "-c", min=1, help="How many jobs run at once.")] = 8,
) -> None:
    """See it work: jobs that make thumbnails, on a private Redis, run by a real worker."""
    from aiojobs_rt.demo import run  # noqa: PLC0415 - the other commands don't need it

    raise typer.Exit(run(jobs=jobs, directory=directory, concurrency=concurrency))
