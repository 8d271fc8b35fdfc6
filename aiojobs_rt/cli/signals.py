"""Signals of the worker process.

TERM and INT stop the worker; the second one stops it at once. TSTP makes it quiet. USR2 dumps the stacks of all tasks and threads.

The loop is told of a signal by way of a file. So TERM and INT have a handler besides: a loop that a job blocks looks into no file. A job may
put a handler of its own in their place; it is taken away again, as who stops the worker waits for an end in good order.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aiojobs_rt.cli.leaving import leave_though_blocked

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import FrameType, TracebackType
    from typing import Self

    Handler = Callable[[int, FrameType | None], None]

    from aiojobs_rt.worker.worker import Worker

logger = logging.getLogger("aiojobs_rt.cli")

STOP = (signal.SIGTERM, signal.SIGINT)
MOST_FRAMES = 40
LOOK_EVERY_S = 2.0
MOST_AFTER_S = 9.0
"""Seconds after the shutdown timeout within which a process must have ended, whatever blocks it; `docs/workers.md` speaks of 10."""


class Signals:
    """Passes signals on to a worker, while it is entered.

    Args:
        worker: whose process this is.
        started: set once it works. Before, there is nothing to finish: it is cancelled.
    """

    def __init__(self, worker: Worker, started: asyncio.Event) -> None:
        self._worker = worker
        self._started = started
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self._expected = 0
        self._handlers: dict[signal.Signals, Handler] = {}

    def __enter__(self) -> Self:
        for number in STOP:
            self._listen(number)
        self._loop.add_signal_handler(signal.SIGTSTP, self._worker.quiet)
        self._loop.add_signal_handler(signal.SIGUSR2, dump_stacks)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in (*STOP, signal.SIGTSTP, signal.SIGUSR2):
            self._loop.remove_signal_handler(number)

    async def until_done(self, running: Coroutine[Any, Any, None]) -> None:
        """Run the worker until it ends, or is stopped before it works."""
        self._task = asyncio.create_task(running, name="aiojobs_rt worker")
        while not self._task.done():
            await asyncio.wait([self._task], timeout=LOOK_EVERY_S)
            self._listen_again()
        with suppress(asyncio.CancelledError):
            self._task.result()

    def _listen(self, number: signal.Signals) -> None:
        self._loop.add_signal_handler(number, self._stop, number)
        self._handlers[number] = _call_too(number, self._expect_stop)

    def _listen_again(self) -> None:
        for number, handler in self._handlers.items():
            found = signal.getsignal(number)
            if found is not handler and found is not None:  # None: by C code, to which it could not be given back
                logger.warning(
                    "a job has put %r in place of the handler of %s; it is taken away again", found, number.name
                )
                self._listen(number)

    def _expect_stop(self) -> None:
        self._expected += 1
        if self._expected == 1:
            leave_though_blocked(time.monotonic() + self._worker.shutdown_timeout + MOST_AFTER_S)
        self._worker.expect_stop(at_once=self._expected > 1)

    def _stop(self, number: signal.Signals) -> None:
        logger.info("%s: %s", number.name, "stopping at once" if self._stopped else "stopping")
        self._stopped = True
        self._worker.stop()
        if not self._started.is_set() and self._task is not None:
            self._task.cancel()


def _call_too(number: signal.Signals, function: Callable[[], None]) -> Handler:
    """A new handler of a signal, which calls a function and then the handler that was there: also while a job blocks the loop."""
    first = signal.getsignal(number)

    def handler(number: int, frame: FrameType | None) -> None:
        function()
        if callable(first):
            first(number, frame)

    # not with SA_RESTART, as the loop has it: a call that waits in the kernel would go on, and Python see nothing
    signal.signal(number, handler)
    return handler


def dump_stacks() -> None:
    """Log where all tasks and threads stand; tasks that stand in the same place are counted, not repeated."""
    tasks = asyncio.all_tasks()
    stacks = Counter(_stack_of(task) for task in tasks)
    parts = [f"{len(tasks)} tasks:"]
    parts += [f"{count} x {stack}" for stack, count in sorted(stacks.items(), key=lambda pair: pair[1])]
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = sys._current_frames()  # noqa: SLF001 - the documented way to other threads' stacks
    parts.append(f"{len(frames)} threads:")
    for ident, frame in frames.items():
        if ident != threading.get_ident():
            stack = "".join(traceback.format_stack(frame, limit=MOST_FRAMES))
            parts.append(f"thread {names.get(ident, ident)}\n{stack}")
    logger.warning("stacks of all tasks and threads\n%s", "\n".join(parts))


def _stack_of(task: asyncio.Task[Any]) -> str:
    """The frames of a task's coroutines, outermost first. A suspended task's own get_stack shows the first one only."""
    title = task.get_name()
    lines: list[str] = []
    waiting: Any = task.get_coro()
    while waiting is not None and len(lines) < MOST_FRAMES:
        frame: FrameType | None = getattr(waiting, "cr_frame", None) or getattr(waiting, "gi_frame", None)
        if frame is None:
            break
        code = frame.f_code
        lines.append(f'  File "{code.co_filename}", line {frame.f_lineno}, in {code.co_name}')
        message = frame.f_locals.get("message") if code.co_name == "execute" else None
        if message is not None:
            title = f"job {message.id} ({message.job})"
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "gi_yieldfrom", None)
    if title.startswith("Task-"):
        title = "task"
    return "\n".join([title, *lines])
