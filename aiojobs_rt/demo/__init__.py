"""`python -m aiojobs_rt demo`: jobs that make thumbnails, on an embedded Redis, run by a real worker process.

Read on in this order:

    jobs.py       the job classes: what an application writes
    scenario.py   which jobs the demo enqueues, and what must have become of them
    session.py    the server, the worker process, and the way through: draw, enqueue, watch, check
    pictures.py   drawing and changing images, with Pillow
    show.py       the progress and the closing table
"""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path

__all__ = ["run"]

FEWEST_JOBS = 10
INTERRUPTED = 130


def run(*, jobs: int = 300, directory: Path | None = None, concurrency: int = 8) -> int:
    """Run the demo and print what happens. Ends with no process of its own left, also at Ctrl-C and TERM.

    Args:
        jobs: how many jobs to enqueue, at least 10.
        directory: where the pictures and thumbnails go, made if it is missing; default: ./demo-data.
        concurrency: how many jobs the worker runs at once, at least 1.

    Returns:
        The exit code: 0 when every job came out as it should, 1 when not, 2 for wrong arguments, 130 when interrupted.
    """
    if jobs < FEWEST_JOBS:
        return _complain(f"The demo needs at least {FEWEST_JOBS} jobs to show something, got {jobs}.", 2)
    if concurrency < 1:
        return _complain(f"The worker needs a concurrency of at least 1, got {concurrency}.", 2)
    if importlib.util.find_spec("PIL") is None:
        return _complain("The demo draws images with Pillow, which is missing: pip install 'aiojobs_rt[demo]'", 1)

    from aiojobs_rt.demo.session import DemoError, play  # noqa: PLC0415 - needs Pillow
    from aiojobs_rt.errors import AiojobsError  # noqa: PLC0415 - with it

    try:
        asyncio.run(play(jobs=jobs, folder=(directory or Path("demo-data")).absolute(), concurrency=concurrency))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return _complain("Interrupted. The worker and its Redis are stopped.", INTERRUPTED)
    except (DemoError, AiojobsError, OSError) as error:
        return _complain(f"The demo did not come out as it should: {error}", 1)
    return 0


def _complain(sentence: str, code: int) -> int:
    from rich.console import Console  # noqa: PLC0415 - a worker that imports the demo's jobs prints nothing

    Console(stderr=True).print(sentence, style="red", markup=False, highlight=False, soft_wrap=True)
    return code
