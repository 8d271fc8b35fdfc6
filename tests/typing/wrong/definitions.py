"""Job classes that no checker may accept: each line with the mark is reported by all of them, and no other line is."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Generic, TypeVar

from pydantic import BaseModel

from aiojobs_rt import (
    AesGcmCipher,
    Job,
    Retry,
    Snooze,
    discard_on,
    locale,
    propagate,
    register_reference,
    rescue_from,
    retry_on,
    use_cipher,
)

T = TypeVar("T")


class Declined(Exception):
    code = 0


class Sync(Job):
    def perform(self, user_id: int) -> bool:  # error: perform must be async
        return bool(user_id)


class Options(Job):
    queue = 5  # error: a str
    priority = "high"  # error: an int
    timeout = "30"  # error: seconds or a timedelta
    max_attempts = "unlimited"  # error: an int
    keep_result = "1h"  # error: seconds or a timedelta
    adapter = "redis://localhost"  # error: an adapter
    encrypted = "yes"  # error: a bool

    async def perform(self) -> None:
        return None


class Choices(Job):
    def choose_queue(self) -> int:  # error: a str
        return 1

    def choose_priority(self, minutes: int) -> int:  # error: no parameters
        return minutes

    async def perform(self, minutes: int) -> None:
        return None


class AwaitedChoice(Job):
    async def choose_queue(self) -> str:  # error: not async
        return "default"

    async def perform(self) -> None:
        return None


class State(Job):
    state: dict[str, int]

    async def perform(self) -> str:
        return self.state["n"]  # error: an int

    @staticmethod
    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[dict[str, int]]:
        yield {"n": "1"}  # error: an int


def by_code(executions: int, error: Declined) -> timedelta:
    return timedelta(seconds=error.code * executions)


def give_up(job: Job, error: Declined) -> None:
    job.logger.info("%d", error.code)


@retry_on(Declined(), attempts=3)  # error: a class
@retry_on(Declined, wait="3")  # error: seconds, a timedelta or a callable
@retry_on(Declined, attempts="forever")  # error: a number or "unlimited"
@retry_on(Declined, times=3)  # error: no such parameter
@retry_on(ValueError, wait=by_code)  # error: takes a Declined
@retry_on(ValueError, on_exhausted=give_up)  # error: takes a Declined
@discard_on("Declined")  # error: a class
@rescue_from(ValueError, handler=give_up)  # error: takes a Declined
class Decorated(Job):
    async def perform(self, cents: int) -> int:
        if cents == 1:
            raise Retry(wait="1")  # error: seconds or a timedelta
        if cents == 2:
            raise Snooze()  # error: until when
        return cents


class User(BaseModel):
    id: int


class Export(Job, Generic[T]):
    async def perform(self, row: T) -> T:
        return row


class ExportUsers(Export[User]):
    pass


async def decorated() -> None:
    await Decorated.perform_later("5")  # error: decorators keep the signature
    text: str = await Decorated.perform_now(5)  # error: decorators keep the result
    print(text)


async def generic() -> None:
    await ExportUsers.perform_later(1)  # error: a User
    row: int = await ExportUsers.perform_now(User(id=1))  # error: a User
    print(row)


retry_on(Declined)(dict)  # error: decorates a job class
discard_on(Declined)(give_up)  # error: decorates a job class


def length(text: str) -> int:
    return len(text)


tenant: ContextVar[int] = ContextVar("tenant")
propagate("tenant")  # error: a ContextVar
propagate(tenant, "tenant")  # error: the name by keyword
propagate(tenant, dump=length, load=length)  # error: dump takes an int
propagate(tenant, dump=str, load=str)  # error: load gives an int
locale.set(1)  # error: a str


class HalfACipher:
    def encrypt(self, data: bytes, associated: bytes) -> bytes:
        return data


use_cipher("a key")  # error: a cipher
use_cipher(HalfACipher())  # error: it has no decrypt
AesGcmCipher([1])  # error: text or bytes


class Person:
    id: int = 1


async def find_person(number: int) -> Person | None:
    return Person()


async def find_number(number: int) -> int:
    return number


register_reference(Person, identify=lambda person: person.number, locate=find_person)  # error: it has none
register_reference(Person, identify=lambda person: person.id, locate=find_number)  # error (not ty): it finds no Person
