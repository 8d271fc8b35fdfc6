"""Emails: `deliver_later` and `deliver_now`, as in Action Mailer, over one job.

    AIOJOBS_RT_REDIS_URL=embedded://./mailer-data python -m examples.mailer

A letter is written and sent where it is delivered: what travels is its name and the user's id, not a text that may be out of date.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import anyio

from aiojobs_rt import Job, discard_on, retry_on
from examples.here import working

if TYPE_CHECKING:
    from datetime import timedelta

    from aiojobs_rt import JobHandle

Name = Literal["welcome", "goodbye"]
USERS = {1: "ada@example.com", 2: "grace@example.com"}
TEXTS: dict[Name, str] = {"welcome": "Welcome, {}!", "goodbye": "Goodbye, {}."}
sent: list[tuple[str, str]] = []
"""Stands for a mail service: address and text."""


class UnknownUser(LookupError):
    """The account was closed since the letter was enqueued."""


@discard_on(UnknownUser)
@retry_on(ConnectionError, wait=30, attempts=10)
class DeliverLetter(Job):
    """Write a letter and send it."""

    queue = "mailers"
    keep_result = 60

    async def perform(self, letter: Name, user_id: int) -> str:
        """Give the address that it went to."""
        if user_id not in USERS:
            raise UnknownUser(f"user {user_id}")
        address = USERS[user_id]
        sent.append((address, TEXTS[letter].format(address.partition("@")[0])))
        return address


@dataclass(frozen=True)
class Letter:
    """A letter to be: what a mailer's functions give."""

    name: Name
    user_id: int

    async def deliver_now(self) -> str:
        """Send it here and now, in the request; what fails is raised."""
        return await DeliverLetter.perform_now(self.name, self.user_id)

    async def deliver_later(self, *, wait: float | timedelta | None = None) -> JobHandle[str]:
        """Have it sent by a worker, which tries again when the service is away."""
        return await DeliverLetter.set(wait=wait).perform_later(self.name, self.user_id)


def welcome(user_id: int) -> Letter:
    """To a new user."""
    return Letter("welcome", user_id)


def goodbye(user_id: int) -> Letter:
    """To one who leaves."""
    return Letter("goodbye", user_id)


async def main() -> list[tuple[str, str]]:
    """Send two letters, one at once and one by a worker."""
    await welcome(1).deliver_now()
    async with working("mailers"):
        handle = await goodbye(2).deliver_later()
        await handle.result(timeout=10)
    return sent


if __name__ == "__main__":
    for address, text in anyio.run(main):
        print(f"{address}: {text}")
