"""What travels with a job on every adapter: context variables, and records by reference."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from aiojobs_rt import (
    RecordNotFound,
    after_enqueue,
    before_enqueue,
    before_perform,
    discard_on,
    locale,
    propagate,
    register_reference,
    retry_on,
    timezone,
)
from tests.conformance.adapters import CarriedJob, log

if TYPE_CHECKING:
    from tests.conformance.adapters import Bed

pytestmark = pytest.mark.acceptance(10)

tenant: ContextVar[str] = ContextVar("conformance_tenant", default="nobody")


@retry_on(ConnectionError, wait=0, attempts=2)
class CarriedContext(CarriedJob):
    async def perform(self) -> tuple[str | None, str | None, str]:
        if self.executions == 1:
            locale.set("xx")
            tenant.set("changed by the job")
            raise ConnectionError("down")
        return locale.get(), timezone.get(), tenant.get()


@pytest.mark.acceptance(33)
async def test_the_context_travels_and_comes_anew_with_each_run(on: Bed) -> None:
    propagate(tenant)
    tokens = locale.set("de-AT"), timezone.set("Europe/Vienna")
    token = tenant.set("acme")
    try:
        handle = await CarriedContext.perform_later()
    finally:
        tenant.reset(token)
        locale.reset(tokens[0])
        timezone.reset(tokens[1])
    await on.reaches(handle, "succeeded")
    assert await handle.result(timeout=5) == ("de-AT", "Europe/Vienna", "acme")
    assert (locale.get(), tenant.get()) == (None, "nobody")
    handle = await CarriedContext.perform_later()
    await on.reaches(handle, "succeeded")
    assert await handle.result(timeout=5) == (None, None, "nobody")


# -- references -----------------------------------------------------------------------------------


@dataclass
class Customer:
    id: int
    name: str


STORED: dict[int, str] = {}


async def find_customers(ids: list[int]) -> dict[int, Customer | None]:
    log.append(f"located {ids}")
    if "away" in STORED.values():
        STORED.clear()
        STORED.update({1: "Ada", 2: "Grace"})
        raise ConnectionError("the database is away")
    return {id_: Customer(id_, STORED[id_]) for id_ in ids if id_ in STORED}


register_reference(Customer, identify=lambda customer: customer.id, locate_many=find_customers, name="Carried")


@pytest.fixture(autouse=True)
def _stored() -> None:
    STORED.clear()
    STORED.update({1: "Ada", 2: "Grace"})


@discard_on(RecordNotFound)
@retry_on(ConnectionError, wait=0, attempts=3)
class CarriedGreets(CarriedJob):
    async def perform(self, first: Customer, others: list[Customer]) -> list[str]:
        assert first is not ADA
        return [customer.name for customer in (first, *others)]


ADA, GRACE = Customer(1, "Ada, as sent"), Customer(2, "Grace, as sent")


@pytest.mark.acceptance(31)
async def test_records_arrive_fresh_and_are_located_together(on: Bed) -> None:
    handle = await CarriedGreets.perform_later(ADA, [GRACE, ADA])
    await on.reaches(handle, "succeeded")
    assert await handle.result(timeout=5) == ["Ada", "Grace", "Ada"]
    assert log == ["located [1, 2]"]


@pytest.mark.acceptance(32)
async def test_a_record_that_is_gone_discards_and_a_database_that_is_away_does_not(on: Bed) -> None:
    del STORED[2]
    gone = await CarriedGreets.perform_later(ADA, [GRACE])
    await on.reaches(gone, "discarded")

    STORED[9] = "away"
    handle = await CarriedGreets.set(max_attempts=3).perform_later(ADA, [GRACE])
    await on.reaches(handle, "retrying", "succeeded")


class CarriedGreetsAloud(CarriedJob):
    @before_enqueue
    def before(self) -> None:
        self.note("before")

    @after_enqueue
    def after(self) -> None:
        self.note("after")

    @before_perform
    def fresh(self) -> None:
        self.note("perform")

    def note(self, when: str) -> None:
        log.append(f"{when} {self.arguments['customer'].name}")

    async def perform(self, customer: Customer) -> None: ...


@pytest.mark.acceptance(31)
async def test_callbacks_see_records(on: Bed) -> None:
    handle = await CarriedGreetsAloud.perform_later(ADA)
    await on.reaches(handle, "succeeded")
    noted = [line for line in log if not line.startswith("located")]
    assert sorted(noted) == ["after Ada, as sent", "before Ada, as sent", "perform Ada"]
