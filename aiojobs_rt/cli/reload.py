"""`--reload`: a parent that starts the worker as a child, and anew whenever a .py file below the current directory changes.

The child is told to stop by TERM, and finishes its running jobs first. Signals to the parent are passed on. A child that ends with an
error is started again at the next change; one that ends cleanly, as with --burst, ends the parent too. When the parent is killed, the child
stops. With --processes the child is the parent of the workers.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from aiojobs_rt.cli.child import Child
from aiojobs_rt.errors import ConfigurationError

if TYPE_CHECKING:
    from types import FrameType

logger = logging.getLogger("aiojobs_rt.cli")

LOOK_EVERY_MS = 500
PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGTSTP, signal.SIGUSR2)


def supervise() -> int:
    """Run this process's own command line as a child; the exit code of the last one.

    Raises:
        ConfigurationError: watchfiles is not installed.
    """
    try:
        from watchfiles import PythonFilter, watch  # noqa: PLC0415 - an optional dependency
    except ImportError:
        raise ConfigurationError("--reload needs watchfiles: pip install 'aiojobs_rt[reload]'") from None
    child = _Latest()
    for number in PASSED_ON:
        signal.signal(number, child.pass_on)
    here = Path.cwd()
    logger.info("watching the .py files in %s", here)
    child.start()
    for changes in watch(
        here,
        watch_filter=PythonFilter(),
        stop_event=child.stopped,
        rust_timeout=LOOK_EVERY_MS,
        yield_on_timeout=True,
        raise_interrupt=False,
    ):
        if changes:
            names = sorted(os.path.relpath(path, here) for _, path in changes)
            logger.info("%s changed: the worker starts anew", ", ".join(names[:3]))
            child.restart()
        elif child.ended_cleanly():
            break
    return child.wait()


class _Latest:
    """The child of the moment.

    Attributes:
        stopped: set when the parent is told to stop.
    """

    def __init__(self) -> None:
        self._child: Child | None = None
        self._reported = False
        self.stopped = threading.Event()

    def start(self) -> None:
        """Start one."""
        self._reported = False
        self._child = Child("reload")

    def restart(self) -> None:
        """Stop it, and start another one unless the parent is told to stop meanwhile."""
        if self._child is not None:
            self._child.send(signal.SIGTERM)
            self._child.wait()
            self._child.close()
        if not self.stopped.is_set():
            self.start()

    def ended_cleanly(self) -> bool:
        """Whether it has ended by itself, with exit code 0; any other end is reported."""
        code = None if self._child is None else self._child.code()
        if code and not self._reported:
            self._reported = True
            logger.error("the worker ended with exit code %d; it starts again at the next change", code)
        return code == 0

    def wait(self) -> int:
        """Wait for its end; the exit code, 0 for one that was told to stop."""
        code = 0 if self._child is None else self._child.wait()
        return max(code, 0)

    def pass_on(self, number: int, _: FrameType | None) -> None:
        """Pass a signal on to it."""
        if number in (signal.SIGTERM, signal.SIGINT):
            self.stopped.set()
        if self._child is not None:
            self._child.send(signal.Signals(number))
