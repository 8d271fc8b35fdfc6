"""`--processes N`: a parent that starts N workers as its children, and keeps them running.

1. The first child starts alone; the others when it has imported the modules: what is wrong with them is said once.
2. Signals to the parent are passed on. TERM and INT end the children, and the parent after the last of them. A child that does not end in its
   time hears no signal (it is stopped, or stuck in C code): it is killed.
3. A child that is killed or crashes is replaced: the first time at once, then after growing waits. One that ends cleanly is not: with --burst
   the queues are drained; else it was told to.
4. A child that can't start (exit code 1 or 2, and none has worked in its place) would not the next time either: all are told to stop, and the
   parent ends with its exit code.

The parent imports no modules of the user, and waits without polling. Each child is a worker of its own, with its own leases and connections.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from aiojobs_rt.cli.child import Child

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import FrameType

logger = logging.getLogger("aiojobs_rt.cli")

STOP = (signal.SIGTERM, signal.SIGINT)
PASSED_ON = (*STOP, signal.SIGTSTP, signal.SIGUSR2)
CALM_S = 60.0
"""A child that lived so long before it died is replaced at once."""
QUICK_DEATHS = 2
"""The second one in a row within that time is replaced after a wait, the next one after twice as long."""
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
ENDING_S = 15.0
"""Within so much more than the shutdown timeout, or after the second TERM, a child has ended by itself if it can."""


def supervise(count: int, *, shutdown_timeout: float) -> int:
    """Run this process's own command line in so many children until they have ended; the exit code.

    Args:
        count: how many.
        shutdown_timeout: seconds for which their running jobs may finish at TERM.
    """
    logger.info("%d processes", count)
    with _wakeups() as wakeups:
        return Supervisor(count, wakeups, ending_s=shutdown_timeout + ENDING_S).run()


class Place:
    """One of the N: the child that runs there, or when the next one starts.

    Attributes:
        number: from 1.
        child: None: it has ended, or none has started.
        due: when one is to start (time.monotonic); None: not.
        proven: a child has worked here.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.child: Child | None = None
        self.due: float | None = None
        self.proven = False
        self._started = 0.0
        self._deaths = 0

    def start(self) -> None:
        """Start a child."""
        self.due = None
        self._started = time.monotonic()
        self.child = Child("processes")

    def replace_later(self) -> float:
        """A child has died: note when the next one starts. In how many seconds that is."""
        now = time.monotonic()
        self._deaths = 0 if now - self._started >= CALM_S else self._deaths + 1
        wait = (
            0.0
            if self._deaths < QUICK_DEATHS
            else min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(self._deaths - QUICK_DEATHS, 16))
        )
        self.due = now + wait
        return wait


class Supervisor:
    """Keeps N children running.

    Args:
        count: how many.
        wakeups: a file from which the numbers of arriving signals are read.
        ending_s: seconds after TERM by which a child that can end has ended.
    """

    def __init__(self, count: int, wakeups: int, *, ending_s: float) -> None:
        self._places = [Place(number) for number in range(1, count + 1)]
        self._wakeups = wakeups
        self._alone = True  # nothing but the first has been started
        self._stopping = False
        self._ending_s = ending_s
        self._kill_at: float | None = None
        self._quiet = False
        self._code = 0

    def run(self) -> int:
        """Start the children, and wait until all have ended; the exit code."""
        self._places[0].due = time.monotonic()
        while True:
            for place in self._places:
                self._look_at(place)
            if all(place.child is None and place.due is None for place in self._places):
                return self._code
            if self._kill_at is not None and self._kill_at <= time.monotonic():
                self._kill()
            self._wait()

    def _look_at(self, place: Place) -> None:
        if place.due is not None and place.due <= time.monotonic():
            self._start(place)
        child = place.child
        if child is None:
            return
        code = child.code()  # asked first: what it told before its end has arrived then
        loaded = child.loaded
        child.listen()
        place.proven |= child.working
        if child.loaded and not loaded:
            self._has_loaded(child)
        if code is not None:
            child.close()
            place.child = None
            self._has_ended(place, child, code)

    def _start(self, place: Place) -> None:
        try:
            place.start()
        except OSError as error:
            wait = place.replace_later()
            logger.error("process %d can't be started: %s; again in %g s", place.number, error.strerror, wait)  # noqa: TRY400 - it says all

    def _has_loaded(self, child: Child) -> None:
        if self._quiet:
            child.send(signal.SIGTSTP)
        if self._alone and not self._stopping:
            self._alone = False
            for place in self._places[1:]:
                self._start(place)

    def _has_ended(self, place: Place, child: Child, code: int) -> None:
        name = f"process {place.number} (pid {child.pid})"
        if code == 0:
            if not self._stopping:
                logger.info("%s has ended as it was told", name)
        elif self._stopping:
            if child.loaded:
                logger.error("%s ended with %s", name, _reason(code))
                self._code = self._code or 1
        elif code in (1, 2) and not place.proven:
            logger.error("%s can't start: all are stopped", name)
            self._code = code
            self._stop(signal.SIGTERM)
        else:
            wait = place.replace_later()
            logger.error("%s ended with %s; another one starts%s", name, _reason(code), f" in {wait:g} s" * bool(wait))

    def _wait(self) -> None:
        """Until a signal arrives, a child tells something or ends, or one is to be started or killed."""
        due = [instant for instant in (*(place.due for place in self._places), self._kill_at) if instant is not None]
        timeout = max(0.0, min(due) - time.monotonic()) if due else None
        lines = [p.child.line.fileno() for p in self._places if p.child and p.child.listening and not p.child.loaded]
        nothing: list[int] = []
        ready, _, _ = select.select([self._wakeups, *lines], nothing, nothing, timeout)
        if self._wakeups in ready:
            for number in os.read(self._wakeups, 512):
                if number in PASSED_ON:
                    self._pass_on(signal.Signals(number))

    def _pass_on(self, number: signal.Signals) -> None:
        if number in STOP:
            self._stop(number)
            return
        self._quiet |= number == signal.SIGTSTP
        for place in self._places:
            if place.child is not None and place.child.loaded:  # before, they would end or halt it
                place.child.send(number)

    def _stop(self, number: signal.Signals) -> None:
        latest = time.monotonic() + (ENDING_S if self._stopping else self._ending_s)
        self._kill_at = min(latest, self._kill_at or latest)
        self._stopping = True
        for place in self._places:
            place.due = None
            if place.child is not None:
                place.child.send(number if place.child.loaded else signal.SIGTERM)

    def _kill(self) -> None:
        self._kill_at = None
        for place in self._places:
            if place.child is not None:
                logger.error(
                    "process %d (pid %d) does not end: it is killed, and its jobs run again elsewhere",
                    place.number,
                    place.child.pid,
                )
                place.child.send(signal.SIGKILL)


def _reason(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"


def _nothing(number: int, frame: FrameType | None) -> None:
    """What arrives is read from the file; but without a handler nothing is written to it."""


@contextmanager
def _wakeups() -> Generator[int]:
    """A file from which the numbers of arriving signals are read: nothing is done inside a handler."""
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(writable, False)
    signals = (*PASSED_ON, signal.SIGCHLD)
    before = {number: signal.signal(number, _nothing) for number in signals}
    old = signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    try:
        yield readable
    finally:
        signal.set_wakeup_fd(old)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(readable)
        os.close(writable)
