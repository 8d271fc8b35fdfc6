"""The background-job recipe: its samples, corrected. `tests/integration/test_examples.py` runs each.

| the recipe writes | here |
| --- | --- |
| `def process(foo_id)` in a worker | `perform`: a class without one is abstract, and enqueueing it raises |
| `foo.increment` by a class of one name, enqueued by another | `SetFoo`: the new value is in the arguments, so that a second run changes nothing |
| a record passed to the worker | its id; the record is loaded when the job runs, and may be gone |
| `:notify` twice in the list of activities | `Notify` and `MarkNotified`: the unreliable step first, each a job of its own; or `NotifyInSteps`, one job in two steps |
| a loop that saves each record, and stops at the first that fails | `EnqueueReminders` enqueues one `Remind` per user, a thousand in a round trip |
"""

from __future__ import annotations

from collections.abc import AsyncGenerator  # noqa: TC003 - read at run time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiojobs_rt import Job, discard_on, perform_all_later, retry_on


class NotFound(LookupError):
    """There is no such record (any more)."""


class MailServiceDown(Exception):
    """The mail service did not take the message."""


@dataclass
class User:
    """A record.

    Attributes:
        address: where mail for the user goes; None: there is none, and reminding fails.
        notified: whether the reminder is noted as sent.
    """

    id: int
    address: str | None
    notified: bool = False


@dataclass
class Application:
    """Stands for a database and a mail service.

    Attributes:
        sent: idempotency key -> address. A key that was sent is not sent again, as good mail services do.
        refusals: how many of the next messages the service does not take.
        locked: how often the table of users is locked by somebody else.
        calls: how often the mail service was asked.
    """

    users: dict[int, User] = field(default_factory=dict)
    foos: dict[int, int] = field(default_factory=dict)
    sent: dict[str, str] = field(default_factory=dict)
    refusals: int = 0
    locked: int = 0
    calls: int = 0

    async def lock(self) -> None:
        """Lock the table of users.

        Raises:
            TimeoutError: somebody else has it.
        """
        if self.locked:
            self.locked -= 1
            raise TimeoutError("the table is locked")

    async def user(self, user_id: int) -> User:
        """Load a user.

        Raises:
            NotFound: it is gone.
        """
        if user_id not in self.users:
            raise NotFound(f"user {user_id}")
        return self.users[user_id]

    async def send(self, address: str, *, key: str) -> None:
        """Send the reminder, once per key.

        Raises:
            MailServiceDown: the service did not take it.
        """
        self.calls += 1
        if self.refusals:
            self.refusals -= 1
            raise MailServiceDown
        self.sent.setdefault(key, address)


application = Application()


@discard_on(NotFound)  # gone since it was enqueued: nothing to do
class ApplicationJob(Job):
    """What all jobs of this application share."""

    queue = "recipe"
    state: Application

    @staticmethod
    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[Application]:
        """Open what the jobs need; here, what is there already."""
        yield application


class SetFoo(ApplicationJob):
    """Idempotent: `value` is what it shall be, not what is to be added."""

    async def perform(self, foo_id: int, value: int) -> None:
        """Set one foo."""
        self.state.foos[foo_id] = value


@retry_on(MailServiceDown, wait=0.05, attempts=5)
class Notify(ApplicationJob):
    """The unreliable step, first. It is retried by itself, with nothing marked yet."""

    async def perform(self, user_id: int, campaign: str) -> None:
        """Send, then have it marked."""
        user = await self.state.user(user_id)
        if user.address is None:
            raise ValueError(f"user {user_id} has no address")
        await self.state.send(user.address, key=f"{campaign}/{user_id}")
        await MarkNotified.perform_later(user_id)


class MarkNotified(ApplicationJob):
    """The reliable step, second. It may run twice: it sets, and does not add."""

    async def perform(self, user_id: int) -> None:
        """Note that the reminder was sent."""
        (await self.state.user(user_id)).notified = True


@retry_on(MailServiceDown, wait=0.05, attempts=5)
class NotifyInSteps(ApplicationJob):
    """The same in one job. When the mark fails, it alone is made again: nobody is notified twice, and no mark is lost."""

    async def perform(self, user_id: int, campaign: str) -> None:
        """Send, then mark."""

        async def notify() -> None:
            user = await self.state.user(user_id)
            if user.address is None:
                raise ValueError(f"user {user_id} has no address")
            await self.state.send(user.address, key=f"{campaign}/{user_id}")

        async def mark() -> None:
            user = await self.state.user(user_id)
            await self.state.lock()
            user.notified = True

        await self.step("notify", notify)
        await self.step("mark", mark)


class EnqueueReminders(ApplicationJob):
    """Enqueue, then process: no arguments, one job per user, so that one bad record stops no other."""

    keep_result = 600

    async def perform(self) -> int:
        """Enqueue a Notify for each user who was not notified yet; how many."""
        waiting = [user.id for user in self.state.users.values() if not user.notified]
        await perform_all_later([Notify.bind(user_id, "spring") for user_id in waiting])
        return len(waiting)
