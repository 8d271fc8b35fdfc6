"""Job classes as applications write them: no checker complains, and what they say is inferred."""

from __future__ import annotations

from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar, assert_type

from pydantic import BaseModel, SecretStr

from aiojobs_rt import (
    AesGcmCipher,
    Bound,
    Job,
    JobHandle,
    RedisAdapter,
    Step,
    after_discard,
    around_perform,
    before_enqueue,
    before_perform,
    discard_on,
    exponentially_longer,
    locale,
    polynomially_longer,
    propagate,
    register_reference,
    rescue_from,
    retry_on,
    timezone,
    use_cipher,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

T = TypeVar("T")


@dataclass
class AppState:
    mails: int = 0


class DeclinedError(Exception):
    code = 0


class ApplicationJob(Job):
    adapter = RedisAdapter("redis://localhost:6379/0")
    queue = "app"
    max_attempts = 10
    state: AppState

    @staticmethod
    @asynccontextmanager
    async def lifespan() -> AsyncGenerator[AppState]:
        yield AppState()


def give_up(job: Job, error: DeclinedError) -> None:
    job.logger.warning("declined: %d", error.code)


async def skip(job: ApplicationJob, error: BaseException) -> None:
    job.logger.warning("skipped: %s", error)


@retry_on(TimeoutError, wait=polynomially_longer, attempts=8)
@retry_on(ConnectionError, OSError, wait=timedelta(seconds=3), attempts="unlimited", jitter=0.5)
@retry_on(DeclinedError, wait=lambda executions, error: executions * error.code, on_exhausted=give_up)
@retry_on(ValueError, wait=exponentially_longer, queue="slow", priority=5)
@discard_on(LookupError)
@discard_on(DeclinedError, callback=give_up)
@rescue_from(KeyError, handler=skip)
@rescue_from(IndexError, handler="ask_again")
class Charge(ApplicationJob):
    queue = "payments"
    priority = -1
    timeout = 30
    max_attempts = 3
    retry_for = timedelta(days=2)
    keep_result = timedelta(hours=1)
    expires_in = 60.5
    name = "charge"

    async def perform(self, cents: int) -> str:
        assert_type(self.state, AppState)
        self.state.mails += 1
        return str(cents)

    @rescue_from(DeclinedError)
    async def ask_again(self, error: DeclinedError) -> None:
        self.logger.info("declined: %d", error.code)

    @rescue_from(ArithmeticError)
    def note(self, error: ArithmeticError) -> None:
        self.logger.info("%s", error)


class Refund(Charge):
    queue = "refunds"
    timeout = 60

    async def perform(self, cents: int) -> str:
        return await super().perform(-cents)


class User(BaseModel):
    id: int


class Order(BaseModel):
    number: str


class Export(ApplicationJob, Generic[T]):
    keep_result = 60

    async def perform(self, rows: list[T], limit: int = 0) -> T:
        return rows[limit]


class ExportUsers(Export[User]):
    pass


class ExportOrders(Export[Order]):
    async def perform(self, rows: list[Order], limit: int = 0, *, title: str = "") -> Order:
        self.logger.info(title)
        return await super().perform(rows, limit)


async def decorated() -> None:
    assert_type(await Charge.perform_later(5), JobHandle[str])
    assert_type(await Charge.set(wait=1).perform_later(cents=5), JobHandle[str])
    assert_type(await Charge.perform_now(5), str)
    assert_type(Charge().state, AppState)
    assert_type(await Refund.perform_later(5), JobHandle[str])


async def generic() -> None:
    assert_type(await ExportUsers.perform_later([User(id=1)]), JobHandle[User])
    assert_type(await ExportUsers.perform_now([User(id=1)], limit=1), User)
    assert_type(await ExportOrders.perform_later([Order(number="1")], title="t"), JobHandle[Order])
    assert_type(await ExportOrders.handle("app.x").result(), Order)


async def in_a_lifespan() -> None:
    async with ApplicationJob.lifespan() as state:
        assert_type(state, AppState)
    async with Charge().lifespan() as state:
        assert_type(state, AppState)
    async with Job.lifespan() as anything:
        assert_type(anything, Any)


class InSteps(Job):
    async def perform(self, path: str) -> int:
        await self.step("check", self.check)
        await self.step("copy", self.copy, isolated=True)
        async for step in self.step("rows", start=0):
            assert_type(step, Step)
            assert_type(step.name, str)
            await step.advance()
            await step.advance({"row": 1})
            await step.set("x")
            await step.checkpoint()
        return len(path)

    async def check(self) -> None: ...

    async def copy(self, step: Step) -> bool:
        return step.resumed


class WithCallbacks(Job):
    @before_enqueue
    def check(self) -> None:
        assert_type(self.arguments["n"], Any)

    @before_perform
    async def connect(self) -> None: ...

    @around_perform
    async def measure(self) -> AsyncGenerator[None]:
        yield

    @after_discard
    async def tell(self, error: BaseException) -> None: ...

    async def perform(self, n: int) -> None:
        await self.connect()


class Chooses(Job):
    def choose_queue(self) -> str:
        return "films" if self.arguments["minutes"] > 60 else super().choose_queue()

    def choose_priority(self) -> int:
        return self.priority - 1

    async def perform(self, minutes: int) -> None: ...


tenant: ContextVar[str] = ContextVar("tenant")
user: ContextVar[User | None] = ContextVar("user", default=None)

propagate(tenant)
propagate(user, name="shop.user", dump=lambda user: user and user.id, load=lambda number: User(id=number))
assert_type(locale.get(), str | None)
timezone.set("Europe/Vienna")


class Encrypted(Job):
    encrypted = True

    async def perform(self, card: str) -> None: ...


class Vault:
    def encrypt(self, data: bytes, associated: bytes) -> bytes:
        return data

    def decrypt(self, data: bytes, associated: bytes) -> bytes:
        return data


use_cipher(Vault())
use_cipher(AesGcmCipher([AesGcmCipher.generate_key(), b"0" * 32, SecretStr(AesGcmCipher.generate_key())]))
use_cipher(None)


class Person:
    id: int = 1


class Club:
    code: str = "chess"


async def find_person(number: int) -> Person | None:
    return Person()


async def find_people(ids: list[int]) -> dict[int, Person]:
    return {id_: Person() for id_ in ids}


def find_club(code: str) -> Club:
    return Club()


register_reference(Person, identify=lambda person: person.id, locate=find_person, locate_many=find_people)
register_reference(Club, identify=lambda club: club.code, locate=find_club, name="shop.Club")


class Invites(Job):
    async def perform(self, person: Person, *clubs: Club) -> str:
        return self.idempotency_key("person")


assert_type(Invites.bind(Person(), Club()), Bound[str])
