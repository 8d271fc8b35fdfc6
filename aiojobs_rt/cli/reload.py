"""`--reload`: a parent that starts the worker as a child, and anew whenever a .py file below the current directory changes.

The child is told to stop by TERM, and finishes its running jobs first. Signals to the parent are passed on. A child that ends with an
error is started again at the next change; one that ends cleanly, as with --burst, ends the parent too.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from aiojobs_rt.errors import ConfigurationError

if TYPE_CHECKING:
    from types import FrameType

logger = logging.getLogger("aiojobs_rt.cli")

LOOK_EVERY_MS = 500
PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGTSTP, signal.SIGUSR2)


def supervise() -> int:
    """Run this process's own command line, without --reload, as a child; the exit code of the last one.

    Raises:
        ConfigurationError: watchfiles is not installed.
    """
    try:
        from watchfiles import PythonFilter, watch  # noqa: PLC0415 - an optional dependency
    except ImportError:
        raise ConfigurationError("--reload needs watchfiles: pip install 'aiojobs_rt[reload]'") from None
    arguments = [argument for argument in sys.argv[1:] if argument != "--reload"]
    child = _Child([sys.executable, "-m", "aiojobs_rt", *arguments])
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


class _Child:
    """The worker process.

    Args:
        command: how it is started.
    """

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._reported = False
        self.stopped = threading.Event()

    def start(self) -> None:
        """Start it, in a session of its own: a Ctrl-C reaches it once, by way of the parent."""
        self._reported = False
        self._process = subprocess.Popen(  # noqa: S603 - this process's own command line
            self._command, env={**os.environ, "AIOJOBS_RT_RELOAD": "0"}, start_new_session=True
        )

    def restart(self) -> None:
        """Stop it, and start it anew unless the parent is told to stop meanwhile."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait()
        if not self.stopped.is_set():
            self.start()

    def ended_cleanly(self) -> bool:
        """Whether it has ended by itself, with exit code 0; any other end is reported."""
        code = None if self._process is None else self._process.poll()
        if code and not self._reported:
            self._reported = True
            logger.error("the worker ended with exit code %d; it starts again at the next change", code)
        return code == 0

    def wait(self) -> int:
        """Wait for its end; the exit code, 0 for one that was told to stop."""
        code = 0 if self._process is None else self._process.wait()
        return max(code, 0)

    def pass_on(self, number: int, _: FrameType | None) -> None:
        """Pass a signal on to it."""
        if number in (signal.SIGTERM, signal.SIGINT):
            self.stopped.set()
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
