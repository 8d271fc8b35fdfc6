"""The end of the process, whatever jobs have done to it or left behind in it.

Python waits at its end for threads, the loop's executor, child processes of `multiprocessing`, and tasks that ignore their cancellation. What a
job has left of these may go on until the shutdown timeout is over; then the process ends without it.
"""

from __future__ import annotations

import _thread
import logging
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from aiojobs_rt.cli import logs

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("aiojobs_rt.cli")

TIDYING = 3.0
"""Seconds for what an application does at the end of its process."""
OVERDUE = "the shutdown has taken as long as it may; the process ends, and what still runs in it runs again elsewhere"
RESET = (signal.SIGTERM, signal.SIGINT, signal.SIGTSTP, signal.SIGUSR2)


def leave_at_once() -> None:
    """End the process: the shutdown has taken as long as it may. Called from a thread."""
    _end(0, OVERDUE)


def leave_by(deadline: float, code: int) -> None:
    """End the process at an instant (time.monotonic) at the latest; from now on it has nothing to do."""
    _thread.start_new_thread(_leave, (deadline, code, _what_is_left))


def leave_though_blocked(deadline: float) -> None:
    """As `leave_by`, for a process that may not come so far: also the heartbeat waits when what takes the log lines does not read them.

    May be called from a signal handler: it takes no lock.
    """
    _thread.start_new_thread(_leave, (deadline, 0, lambda: OVERDUE))


def _leave(deadline: float, code: int, reason: Callable[[], str]) -> None:
    time.sleep(max(0.0, deadline - time.monotonic()))
    _end(code, reason())


def _what_is_left() -> str:
    main = threading.main_thread()
    names = [thread.name for thread in threading.enumerate() if not thread.daemon and thread is not main]
    return (
        "the worker has stopped, but something that its jobs have left behind goes on: a task that ignores its cancellation, a child process, "
        f"or a thread (of these there are: {', '.join(names[:10]) or 'none'}); the process ends without it"
    )


def _end(code: int, reason: str) -> NoReturn:
    said = threading.Event()
    _thread.start_new_thread(_say, (reason, said))
    said.wait(1)  # no longer: nobody may read what is written, or hold the lock of a handler for ever
    os._exit(code)


def _say(reason: str, said: threading.Event) -> None:
    with suppress(Exception):
        logger.critical("%s", reason)
        logs.flush()
        for stream in (sys.stdout, sys.stderr):  # a job may have closed or replaced it
            stream.flush()
    said.set()


def free_forked_children() -> None:
    """Give a forked child back the signals of a process of its own: one sent to it would else stop this worker, and not the child.

    A signal that comes before that is done waits until it is.
    """
    own = os.getpid()
    forking = threading.local()

    def before() -> None:
        forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, RESET)

    def after() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, forking.mask)

    def in_child() -> None:
        if os.getppid() == own:  # else a child of a child
            signal.set_wakeup_fd(-1)
            for number in RESET:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        after()

    os.register_at_fork(before=before, after_in_parent=after, after_in_child=in_child)
