"""Processes that begin with everything imported: forked from a server, in a tenth of the time that a fresh Python takes.

The server belongs to the test process, is started at first use, and ends with it.
"""

from __future__ import annotations

import multiprocessing
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from aiojobs_rt.cli.app import app
from aiojobs_rt.settings import settings
from tests.support import jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

ROOT = Path(__file__).parents[2]
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__])


class Fork:
    """A process that calls a function; the part of `subprocess.Popen` that the tests use."""

    def __init__(self, target: Callable[..., object], *args: Any) -> None:
        self._process = CONTEXT.Process(target=target, args=args, daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """The exit code, negative when a signal ended it; None while it runs."""
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def wait(self) -> None:
        self._process.join()


def command(arguments: Sequence[str], environment: Mapping[str, str], log: str) -> None:
    """Be `python -m aiojobs_rt`: with these arguments and this environment, and with output to a file."""
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environment)
    warnings.simplefilter("default")
    settings.cache_clear()
    jobs.ledger.path = Path(os.environ.get("TEST_LEDGER", os.devnull))
    app(list(arguments), prog_name="aiojobs_rt")
