"""Calls that no checker may accept: each line with the mark is reported by all of them, and no other line is."""

from __future__ import annotations

from datetime import UTC, datetime

from aiojobs_rt import Bound, Event, Job, JobHandle, perform_all_later, subscribe


class SendWelcome(Job):
    async def perform(self, user_id: int, template: str = "welcome") -> bool:
        return bool(user_id) and bool(template)


class Keyword(Job):
    async def perform(self, first: int, /, *, key: str) -> None:
        return None


async def perform_later() -> None:
    await SendWelcome.perform_later()  # error: missing
    await SendWelcome.perform_later("42")  # error: wrong type
    await SendWelcome.perform_later(42, "a", "b")  # error: too many
    await SendWelcome.perform_later(42, templat="a")  # error: unknown keyword
    await SendWelcome.perform_later(42, user_id=42)  # error: given twice
    await SendWelcome.perform_later(42, template=None)  # error: wrong type by keyword
    await SendWelcome.perform_later(42, wait=10)  # error: an option is not an argument
    await Keyword.perform_later(1, "k")  # error: keyword-only
    await Keyword.perform_later(first=1, key="k")  # error: positional-only
    await SendWelcome().perform_later("42")  # error: on an instance


async def perform_now() -> None:
    await SendWelcome.perform_now()  # error: missing
    await SendWelcome.perform_now(None)  # error: wrong type
    await SendWelcome().perform("42")  # error: the plain call


async def set_options() -> None:
    await SendWelcome.set(wait=10).perform_later()  # error: missing
    await SendWelcome.set(wait=10).perform_later("42")  # error: wrong type
    await SendWelcome.set(wait=10).perform_now("42")  # error: wrong type
    SendWelcome.set(wait=10).bind(42, 43)  # error: wrong type of the second
    SendWelcome.set(10)  # error: by keyword only
    SendWelcome.set(delay=10)  # error: no such option
    SendWelcome.set(wait="10")  # error: seconds or a timedelta
    SendWelcome.set(wait=datetime.now(tz=UTC))  # error: that is wait_until
    SendWelcome.set(wait_until=10)  # error: a datetime
    SendWelcome.set(queue=1)  # error: a str
    SendWelcome.set(priority="high")  # error: an int
    SendWelcome.set(priority=1.5)  # error: an int
    SendWelcome.set(max_attempts="unlimited")  # error: an int
    SendWelcome.set(keep_result="1h")  # error: seconds or a timedelta


async def order() -> None:
    await SendWelcome.perform_later(42).set(wait=10)  # error: set comes before perform_later
    handle = await SendWelcome.perform_later(42)
    handle.set(wait=10)  # error: it is enqueued already
    SendWelcome.set(wait=10)(42)  # error: not callable
    await SendWelcome.set(wait=10)  # error: nothing to await yet
    await SendWelcome.bind(42)  # error: not enqueued
    await SendWelcome(42).perform_later()  # error: arguments go to perform_later
    await SendWelcome.perform(42)  # error: perform is a method


async def forgotten() -> None:
    SendWelcome.perform_later(42)  # error (not ty): not awaited
    SendWelcome.set(wait=10).perform_later(42)  # error: not awaited


async def bulk() -> None:
    await perform_all_later([SendWelcome.perform_later(1)])  # error: bind, not perform_later
    await perform_all_later([SendWelcome])  # error: not bound
    await perform_all_later(SendWelcome.bind(1))  # error: a list
    SendWelcome.bind()  # error: missing
    SendWelcome.bind("1")  # error: wrong type


async def results() -> None:
    handle = await SendWelcome.perform_later(42)
    text: str = await handle.result()  # error: a bool
    number: str = await SendWelcome.perform_now(42)  # error: a bool
    other: JobHandle[str] = handle  # error: a handle of a bool
    bound: Bound[str] = SendWelcome.bind(42)  # error: gives a bool
    found: JobHandle[str] = SendWelcome.handle("default.abc")  # error: a handle of a bool
    await handle.result(timeout="5")  # error: seconds or a timedelta
    SendWelcome.handle(42)  # error: an id is a str
    JobHandle.of(42)  # error: an id is a str
    nothing: bool = handle.cancel()  # error: not awaited
    print(text, number, other, bound, found, nothing)


def hear() -> None:
    def takes_text(text: str) -> None: ...

    subscribe(takes_text)  # error: not of an event
    subscribe(print, "died")  # error: no such kind

    def changes(event: Event) -> None:
        event.kind = "dead"  # error: frozen

    subscribe(changes)()
