"""What continuations ask of whoever runs jobs inside this process, and the stops that a test plans.

The progress of a job is on its message, which never leaves the process: there is nothing to save or restore.
"""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiojobs_rt.core.continuation import FIELD

if TYPE_CHECKING:
    from collections.abc import Generator

    from aiojobs_rt.core.continuation import Step
    from aiojobs_rt.core.message import JobMessage
    from aiojobs_rt.job import Job

MOST_PASSED = 10


class InProcessHost:
    """Runs jobs to their end: one that ended at a checkpoint would be lost with this process."""

    def interrupts(self, message: JobMessage, step: Step | None) -> bool:  # noqa: ARG002 - see `Host`
        """Never."""
        return False

    def save(self, message: JobMessage) -> None:
        """Nothing to do."""

    async def restore(self, message: JobMessage) -> bytes | None:  # noqa: ARG002 - see `Host`
        """Nothing is."""
        return None


@dataclass(slots=True)
class Stop:
    """Where jobs of a class are to end.

    Attributes:
        job: the class.
        step: the name of a step.
        after: when that step is complete; else inside it.
        cursor: only where it stands there; None: at its first checkpoint.
        interrupted: the ids of the jobs that did end there.
        passed: the checkpoints that others have passed, the latest last.
    """

    job: type[Job]
    step: str
    after: bool = False
    cursor: Any = None
    interrupted: set[str] = field(default_factory=set[str])
    passed: deque[str] = field(default_factory=lambda: deque[str](maxlen=MOST_PASSED))

    def is_at(self, message: JobMessage, step: Step | None) -> bool:
        """Whether a job has come to it; notes where it is otherwise."""
        if message.job != self.job.name:
            return False
        if step is None:
            before = message.extra[FIELD]["completed"][-1]
            found, here = self.after and before == self.step, f"after {before!r}"
        else:
            found = not self.after and step.name == self.step and (self.cursor is None or step.cursor == self.cursor)
            here = f"in {step.name!r} at {step.cursor!r:.100}"
        if found:
            self.interrupted.add(message.id)
        else:
            self.passed.append(here)
        return found

    def check(self, *, ran: bool) -> None:
        """Check that a job has ended there.

        Args:
            ran: whether any of the class was run.

        Raises:
            AssertionError: none has; lists the checkpoints that were passed.
        """
        __tracebackhide__ = True
        if self.interrupted:
            return
        where = f"after step {self.step!r}" if self.after else f"during step {self.step!r}"
        if self.cursor is not None:
            where += f" at {self.cursor!r}"
        if not ran:
            said = "none was run within the block: await jobs.perform_enqueued() there"
        elif not self.passed:
            said = "it passed no checkpoint: a job can end where a step advances, sets or checks, and between two steps"
        else:
            said = "it passed these checkpoints:\n" + "\n".join(f"  {passed}" for passed in self.passed)
        raise AssertionError(f"no {self.job.__name__} was interrupted {where}; {said}")


class PlannedStops(InProcessHost):
    """Has jobs end where a test says, as if their worker stopped there."""

    def __init__(self) -> None:
        self._stops: list[Stop] = []

    def interrupts(self, message: JobMessage, step: Step | None) -> bool:
        """Whether a job has come to one of the stops."""
        return bool(self._stops) and any(stop.is_at(message, step) for stop in self._stops)

    def holds(self, job_id: str) -> bool:
        """Whether a job was interrupted, and its worker has not begun anew."""
        return any(job_id in stop.interrupted for stop in self._stops)

    @contextmanager
    def at(self, stop: Stop) -> Generator[Stop]:
        """Within the block, jobs end there, and do not go on before it is left."""
        self._stops.append(stop)
        try:
            yield stop
        finally:
            self._stops.remove(stop)
