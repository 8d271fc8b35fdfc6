"""Context variables travel with a job when they are set, are there around the whole run, and are gone after it."""

from __future__ import annotations

import asyncio
from contextvars import Context, ContextVar
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from aiojobs_rt import (
    DeserializationError,
    Job,
    PayloadTooLarge,
    RecordNotFound,
    after_discard,
    around_perform,
    before_enqueue,
    before_perform,
    blocking,
    discard_on,
    locale,
    perform_all_later,
    propagate,
    rescue_from,
    timezone,
)
from aiojobs_rt.core import propagation
from aiojobs_rt.core.message import MalformedMessage, parse
from aiojobs_rt.core.outcome import SUCCEEDED, Dead, Discarded, Outcome, Retried
from aiojobs_rt.enqueue import deliver
from aiojobs_rt.integrations.sqlalchemy import Outbox, enqueue_after_commit
from tests.support.recording import RecordingAdapter, as_message, outcome_of, record_of, run

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

tenant: ContextVar[Any] = ContextVar("tenant")
budget: ContextVar[Decimal] = ContextVar("budget", default=Decimal(0))
SEEN: list[Any] = []

pytestmark = pytest.mark.acceptance(33)


@pytest.fixture(autouse=True)
def adapter(monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordingAdapter]:
    SEEN.clear()
    adapter = RecordingAdapter()
    monkeypatch.setattr(Job, "adapter", adapter)
    monkeypatch.setattr(propagation, "_propagated", propagation._propagated[:])
    propagate(tenant)
    propagate(budget, name="shop.budget", dump=str, load=Decimal)
    tokens = [locale.set("de-AT"), timezone.set("Europe/Vienna")]
    yield adapter
    for token in tokens:
        token.var.reset(token)


def here() -> tuple[Any, ...]:
    return locale.get(), timezone.get(), tenant.get(None), budget.get()


def extra_of(adapter: RecordingAdapter) -> dict[str, Any]:
    """What the latest job has in its meta."""
    return dict(as_message(adapter.envelopes[-1]).extra)


async def run_elsewhere(adapter: RecordingAdapter) -> Outcome | None:
    """Run the latest job as a worker does: in a context in which nothing is set. It is left as it was."""
    context = Context()
    outcome = await asyncio.create_task(run(as_message(adapter.envelopes[-1])), context=context)
    assert {var.name for var in context} <= {"decimal_context"}
    return outcome


class Looks(Job):
    async def perform(self) -> None:
        SEEN.append(here())


# -- at the enqueue ------------------------------------------------------------------------------


async def test_what_is_set_travels_and_is_there_inside_perform(adapter: RecordingAdapter) -> None:
    tenant.set({"id": 7, "flags": ["a", None, True, 0.5]})
    budget.set(Decimal("1.10"))
    await Looks.perform_later()
    assert extra_of(adapter)["context"] == {
        "locale": "de-AT",
        "timezone": "Europe/Vienna",
        "tenant": {"id": 7, "flags": ["a", None, True, 0.5]},
        "shop.budget": "1.10",
    }
    assert await run_elsewhere(adapter) is SUCCEEDED
    assert [("de-AT", "Europe/Vienna", {"id": 7, "flags": ["a", None, True, 0.5]}, Decimal("1.10"))] == SEEN


async def test_what_is_not_set_adds_no_byte(adapter: RecordingAdapter) -> None:
    locale.set(None)
    timezone.set(None)
    await Looks.perform_later()
    assert adapter.envelopes[0].meta == b"}"
    locale.set("en")
    await Looks.set(wait=5, expires_in=5, priority=3).perform_later()
    message = as_message(adapter.envelopes[1])
    assert (message.priority, message.extra) == (3, {"delay": 5000, "context": {"locale": "en"}})


async def test_many_jobs_take_the_context_of_the_call(adapter: RecordingAdapter) -> None:
    jobs = [Looks.bind(), Looks.set(priority=1).bind()]
    locale.set("fr")
    await perform_all_later(jobs)
    assert [as_message(envelope).extra["context"]["locale"] for envelope in adapter.envelopes] == ["fr", "fr"]


async def test_a_job_enqueued_later_keeps_the_context_of_the_call(adapter: RecordingAdapter) -> None:
    held: list[int] = [1]
    tenant.set(held)
    bound = Looks.bind().identified()
    held.append(2)
    locale.set("fr")
    await deliver(bound)
    await perform_all_later([bound])
    for envelope in adapter.envelopes:
        context = as_message(envelope).extra["context"]
        assert (context["locale"], context["tenant"]) == ("de-AT", [1])


async def test_after_the_commit_and_in_the_outbox_it_is_the_context_of_the_call(adapter: RecordingAdapter) -> None:
    engine = create_async_engine("sqlite+aiosqlite://")
    outbox = Outbox()
    async with engine.begin() as connection:
        await connection.run_sync(outbox.table.metadata.create_all)
    async with AsyncSession(engine) as session, session.begin():
        enqueue_after_commit(session, Looks.bind())
        outbox.add(session, Looks.bind())
        locale.set("fr")
    assert extra_of(adapter)["context"]["locale"] == "de-AT"
    async with engine.connect() as connection:
        row = (await connection.execute(outbox.table.select())).one()
    assert orjson.loads(b'{"v":1' + row.meta)["context"]["locale"] == "de-AT"
    await engine.dispose()


def test_a_thread_without_a_loop_hands_its_context_over(adapter: RecordingAdapter) -> None:
    locale.set("fr")
    blocking.perform_later(Looks.bind())
    assert extra_of(adapter)["context"]["locale"] == "fr"
    locale.set("it")
    blocking.perform_all_later([Looks.bind()])
    assert extra_of(adapter)["context"]["locale"] == "it"


async def test_an_enqueue_callback_may_set_it(adapter: RecordingAdapter) -> None:
    class SetsLocale(Looks):
        @before_enqueue
        def set_locale(self) -> None:
            locale.set("hu")

    await SetsLocale.perform_later()
    assert extra_of(adapter)["context"]["locale"] == "hu"


class Plan(StrEnum):
    FREE = "free"


@pytest.mark.parametrize("value", [(1, 2), {1: 2}, Plan.FREE, Decimal(1), float("nan"), 2**70, "\ud800", {"a": {1}}])
async def test_what_json_would_change_is_refused_at_the_caller(value: Any, adapter: RecordingAdapter) -> None:
    tenant.set(value)
    with pytest.raises(TypeError, match=f"'tenant' holds a {type(value).__name__} that JSON can't hold as it is; give"):
        await Looks.perform_later()
    assert adapter.envelopes == []


async def test_a_dump_that_fails_or_gives_no_json_is_the_callers_error() -> None:
    def refuse(value: Any) -> Any:
        raise LookupError("no such tenant")

    propagate(tenant, dump=refuse, load=str)
    tenant.set(1)
    with pytest.raises(LookupError, match="no such tenant") as raised:
        await Looks.perform_later()
    assert raised.value.__notes__ == ["while the context variable 'tenant' was dumped to travel with a job"]
    propagate(tenant, dump=lambda value: (value,), load=str)
    with pytest.raises(TypeError, match="'tenant' is dumped to a tuple that JSON can't hold as it is"):
        await Looks.perform_later()


async def test_too_much_of_it_is_refused_without_its_value() -> None:
    tenant.set("secret" * 50_000)
    with pytest.raises(PayloadTooLarge, match=r"locale, timezone, tenant\) take 300,0\d\d bytes, more than") as raised:
        await Looks.perform_later()
    assert "secret" not in str(raised.value)


# -- at the run ----------------------------------------------------------------------------------


async def test_it_is_there_around_the_whole_run(adapter: RecordingAdapter) -> None:
    @discard_on(ValueError, callback=lambda _job, _error: SEEN.append(("callback", locale.get())))
    class Full(Job):
        def __init__(self) -> None:
            SEEN.append(("init", locale.get()))

        @before_perform
        def before(self) -> None:
            SEEN.append(("before", locale.get()))

        @around_perform
        async def around(self) -> AsyncGenerator[None]:
            SEEN.append(("in", locale.get()))
            try:
                yield
            finally:
                SEEN.append(("out", locale.get()))

        @after_discard
        def gone(self, error: BaseException) -> None:
            SEEN.append(("discarded", locale.get()))

        async def perform(self) -> None:
            SEEN.append(("perform", locale.get()))
            raise ValueError

    await Full.perform_later()
    SEEN.clear()
    assert isinstance(await run_elsewhere(adapter), Discarded)
    assert [name for name, _ in SEEN] == ["init", "before", "in", "perform", "out", "callback", "discarded"]
    assert {found for _, found in SEEN} == {"de-AT"}


async def test_what_the_job_enqueues_inherits_it_and_what_it_sets_is_undone(adapter: RecordingAdapter) -> None:
    class Parent(Job):
        async def perform(self) -> None:
            await Looks.perform_later()
            locale.set("fr")
            timezone.set("UTC")

    await Parent.perform_later()
    assert await run_elsewhere(adapter) is SUCCEEDED
    assert extra_of(adapter)["context"] == {"locale": "de-AT", "timezone": "Europe/Vienna"}
    assert await run_elsewhere(adapter) is SUCCEEDED
    assert SEEN == [("de-AT", "Europe/Vienna", None, 0)]


async def test_a_retry_keeps_it_and_names_that_this_worker_does_not_know() -> None:
    class Spoils(Job):
        async def perform(self) -> None:
            tenant.get().append("spoilt")
            raise ValueError

    context = {"locale": "de", "tenant": ["a"], "of a newer deploy": 1}
    outcome = await outcome_of(Spoils, extra={"context": context})
    assert isinstance(outcome, Retried)
    assert outcome.message.extra["context"] == {"locale": "de", "tenant": ["a"], "of a newer deploy": 1}


async def test_what_does_not_load_is_the_jobs_failure_within_its_declarations() -> None:
    class Plain(Looks):
        pass

    outcome = await outcome_of(Plain, extra={"context": {"shop.budget": "much", "locale": "de"}})
    assert isinstance(outcome, Retried)
    assert record_of(outcome)["error"] == "DeserializationError"
    assert record_of(outcome)["message"] == "the context variable 'shop.budget' could not be loaded"
    assert "InvalidOperation" in record_of(outcome)["traceback"]
    assert SEEN == []

    class Handles(Looks):
        def __init__(self) -> None:
            self.made = True

        @rescue_from(DeserializationError)
        def note(self, error: DeserializationError) -> None:
            SEEN.append((self.made, str(error), locale.get()))

    assert await outcome_of(Handles, extra={"context": {"shop.budget": "much", "locale": "de"}}) is SUCCEEDED
    assert SEEN == [(True, "the context variable 'shop.budget' could not be loaded", "de")]
    assert here() == ("de-AT", "Europe/Vienna", None, 0)


async def test_a_load_may_say_that_there_is_no_such_record_or_exit() -> None:
    def gone(_value: Any) -> Any:
        raise RecordNotFound("no tenant 7")

    propagate(tenant, dump=str, load=gone)
    outcome = await outcome_of(Looks, extra={"context": {"tenant": "7"}})
    assert isinstance(outcome, Dead)
    assert record_of(outcome)["message"] == "no tenant 7"

    def leave(_value: Any) -> Any:
        raise SystemExit(3)

    propagate(tenant, dump=str, load=leave)
    outcome = await outcome_of(Looks, extra={"context": {"locale": "fr", "tenant": "7"}})
    assert isinstance(outcome, Retried)
    assert locale.get() == "de-AT"


async def test_perform_now_runs_in_the_callers_context() -> None:
    tenant.set(object())  # nothing travels
    await Looks.perform_now()
    assert SEEN[0][:2] == ("de-AT", "Europe/Vienna")


def test_a_context_that_is_no_object_is_malformed() -> None:
    with pytest.raises(MalformedMessage, match="meta's 'context' is not an object"):
        parse(b"q.1", b"Looks", b"{}", b'{"v":1,"at":1,"context":["de"]}', queue="q")


# -- registration --------------------------------------------------------------------------------


def test_a_name_belongs_to_one_variable_and_a_variable_has_one_name() -> None:
    propagate(tenant)  # again, as by a module that is loaded twice
    with pytest.raises(ValueError, match=r"'tenant' is another variable's name on the wire; give this one name="):
        propagate(ContextVar("tenant"))
    with pytest.raises(ValueError, match="'locale' is another variable's name"):
        propagate(ContextVar("mine"), name="locale")
    with pytest.raises(ValueError, match="travels already, as 'tenant', and not as 'lodger' too"):
        propagate(tenant, name="lodger")
    propagate(ContextVar("tenant"), name="another.tenant")


@pytest.mark.parametrize(
    ("var", "options", "error", "message"),
    [
        ("tenant", {}, TypeError, "propagate takes a ContextVar, got 'tenant'"),
        (ContextVar("x"), {"dump": str}, TypeError, r"propagate\(x\): give dump and load, or neither"),
        (ContextVar("x"), {"load": str}, TypeError, r"propagate\(x\): give dump and load, or neither"),
        (ContextVar("x"), {"name": ""}, ValueError, "name must be 1 to 200 printable characters, got ''"),
        (ContextVar("a\nb"), {}, ValueError, "name must be 1 to 200 printable characters"),
        (ContextVar("x"), {"name": 5}, ValueError, "name must be 1 to 200 printable characters, got 5"),
    ],
)
def test_a_wrong_registration_is_refused(
    var: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        propagate(var, **options)
