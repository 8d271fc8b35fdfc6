"""A child that a job forks by hand (`os.fork`) is no second worker: it ends where it would go on as one.

It has copies of the worker's connections and of its loop: what it sent or read there would be taken for the worker's.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import NoReturn

pid = os.getpid()
"""Of this process; cheaper than to ask the system for each job."""


def leave(code: int) -> NoReturn:
    """End a forked child after its job's `perform`, as `sys.exit` would have: nothing is settled here."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code)


def _in_child() -> None:
    global pid  # noqa: PLW0603 - it is another process
    pid = os.getpid()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
