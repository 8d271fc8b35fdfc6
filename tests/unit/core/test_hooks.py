"""Callbacks: their order is Active Job's, what halts them halts the job, and what fails in them loses none."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from aiojobs_rt import (
    Abort,
    Discard,
    InvalidJob,
    Job,
    after_discard,
    after_enqueue,
    after_perform,
    around_enqueue,
    around_perform,
    before_enqueue,
    before_perform,
    callbacks,
    discard_on,
    perform_all_later,
    rescue_from,
    retry_on,
)
from aiojobs_rt.core.outcome import SUCCEEDED, Dead, Discarded, Retried
from tests.support.recording import RecordingAdapter, outcome_of, record_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

RAN: list[Any] = []

pytestmark = pytest.mark.acceptance(26, 27)


@pytest.fixture(autouse=True)
def adapter(monkeypatch: pytest.MonkeyPatch) -> RecordingAdapter:
    RAN.clear()
    adapter = RecordingAdapter()
    monkeypatch.setattr(Job, "adapter", adapter)
    return adapter


class Base(Job):
    @before_perform
    def first(self) -> None:
        RAN.append("first")

    @after_perform
    async def last(self) -> None:
        RAN.append("last")

    async def perform(self, n: int = 1) -> int:
        RAN.append(f"perform {n}")
        return n


class Full(Base):
    @before_perform
    async def second(self) -> None:
        RAN.append("second")

    @around_perform
    async def outer(self) -> AsyncGenerator[None]:
        RAN.append("outer in")
        yield
        RAN.append("outer out")

    @before_perform
    def third(self) -> None:
        RAN.append("third")

    @after_perform
    def early(self) -> None:
        RAN.append("early")

    @around_perform
    async def inner(self) -> AsyncGenerator[None]:
        RAN.append("inner in")
        yield
        RAN.append("inner out")

    @after_perform
    def earliest(self) -> None:
        RAN.append("earliest")


ORDER = [
    "first",
    "second",
    "outer in",
    "third",
    "inner in",
    "perform 1",
    "earliest",
    "inner out",
    "early",
    "outer out",
    "last",
]
"""As ActiveSupport runs a chain of these declarations."""


@pytest.mark.acceptance(17)
async def test_the_order_is_that_of_active_job() -> None:
    assert await outcome_of(Full) is SUCCEEDED
    assert RAN == ORDER
    RAN.clear()
    assert await Full.perform_now() == 1
    assert RAN == ORDER


async def test_a_subclass_overrides_in_place_and_declares_anew_at_the_end() -> None:
    class Overrides(Full):
        def first(self) -> None:
            RAN.append("first of the subclass")

        @before_perform
        async def second(self) -> None:
            RAN.append("second, moved")

    await outcome_of(Overrides)
    assert RAN[:1] == ["first of the subclass"]
    assert RAN[RAN.index("perform 1") - 1] == "second, moved"
    assert RAN.count("second, moved") == 1


async def test_hooks_see_the_job_and_its_arguments() -> None:
    class Sees(Job):
        keep_result = 60

        @before_perform
        async def look(self) -> None:
            RAN.append((self.id, self.queue, self.executions, dict(self.arguments)))
            with pytest.raises(TypeError):
                self.arguments["n"] = 2  # type: ignore[index] # pyright: ignore[reportIndexIssue] - what is tested

        async def perform(self, n: int, /, *rest: str, key: bool = False, **more: float) -> None: ...

    await outcome_of(Sees, b'{"n":1,"rest":["a","b"],"more":{"x":0.5}}')
    assert RAN == [("default.abc", "default", 1, {"n": 1, "rest": ("a", "b"), "more": {"x": 0.5}})]
    with pytest.raises(AttributeError, match="was called directly"):
        _ = Sees().arguments


async def test_abort_in_a_before_hook_ends_the_job_unperformed() -> None:
    class Aborts(Full):
        @before_perform
        def stop(self) -> None:
            raise Abort("no quota")

        @after_discard
        def discarded(self, error: BaseException) -> None:
            RAN.append(error)

    assert await outcome_of(Aborts) == Discarded("halted by before_perform stop: no quota")
    assert RAN == ["first", "second", "outer in", "third", "inner in", "inner out", "outer out"]
    assert await Aborts.perform_now() is None


async def test_a_halt_is_no_error_to_the_hooks_around_it() -> None:
    class Reports(Full):
        @around_perform
        async def report(self) -> AsyncGenerator[None]:
            try:
                yield
            except BaseException as error:
                RAN.append(error)
                raise
            RAN.append("no error")

        @before_perform
        def stop(self) -> None:
            raise Abort("no quota")

    class Breaks(Reports):
        async def outer(self) -> AsyncGenerator[None]:
            yield
            raise ValueError("after the halt")

    assert await outcome_of(Reports) == Discarded("halted by before_perform stop: no quota")
    assert [entry for entry in RAN if entry == "no error" or isinstance(entry, BaseException)] == ["no error"]
    assert isinstance(await outcome_of(Breaks), Retried)


async def test_an_around_that_does_not_yield_halts_and_skips_what_comes_after() -> None:
    class Holds(Full):
        @around_perform
        async def hold(self) -> AsyncGenerator[None]:
            if RAN:
                return
            yield

    assert await outcome_of(Holds) == Discarded("halted by around_perform hold")
    assert "perform 1" not in RAN
    assert "last" not in RAN


async def test_errors_in_perform_hooks_are_the_jobs_own() -> None:
    @retry_on(KeyError, wait=3, jitter=0, attempts=2)
    class Fails(Job):
        @around_perform
        async def around(self) -> AsyncGenerator[None]:
            try:
                yield
            except ValueError as error:
                raise KeyError("translated") from error

        @after_perform
        def after(self) -> None:
            RAN.append("after")

        async def perform(self) -> None:
            raise ValueError("inner")

    outcome = await outcome_of(Fails)
    assert isinstance(outcome, Retried)
    assert outcome.delay_ms == 3000
    assert record_of(outcome)["error"] == "KeyError"
    assert RAN == []

    class Takes(Job):
        keep_result = 60

        @around_perform
        async def around(self) -> AsyncGenerator[None]:
            try:
                yield
            except ValueError:
                RAN.append("taken")

        async def perform(self) -> int:
            raise ValueError("inner")

    assert await Takes.perform_now() is None
    assert RAN == ["taken"]


# -- enqueueing ----------------------------------------------------------------------------------


class Enqueued(Job):
    @before_enqueue
    async def before(self) -> None:
        RAN.append(("before", self.id, self.queue, dict(self.arguments)))
        if self.arguments["n"] < 0:
            raise Abort("negative")

    @around_enqueue
    async def around(self) -> AsyncGenerator[None]:
        RAN.append("in")
        yield
        RAN.append("out")

    @after_enqueue
    def after(self) -> None:
        RAN.append("after")

    async def perform(self, n: int) -> None:
        raise ValueError("boom")


async def test_enqueue_hooks_run_around_the_enqueueing(adapter: RecordingAdapter) -> None:
    handle = await Enqueued.set(queue="low").perform_later(1)

    assert handle.enqueued
    assert [envelope.id for envelope in adapter.envelopes] == [handle.id]
    assert [("before", handle.id, "low", {"n": 1}), "in", "after", "out"] == RAN


@pytest.mark.acceptance(16)
async def test_an_aborted_enqueue_enqueues_nothing_and_says_so(adapter: RecordingAdapter) -> None:
    handle = await Enqueued.perform_later(-1)

    assert handle.enqueued is False
    assert adapter.envelopes == []
    assert await handle.status() == "unknown"
    assert len(RAN) == 1


async def test_many_at_once_run_no_enqueue_hooks(adapter: RecordingAdapter) -> None:
    handles = await perform_all_later([Enqueued.bind(1), Enqueued.bind(-1)])

    assert [handle.enqueued for handle in handles] == [True, True]
    assert len(adapter.envelopes) == 2
    assert RAN == []


async def test_an_error_in_an_enqueue_hook_is_the_callers(adapter: RecordingAdapter) -> None:
    class Refuses(Job):
        @before_enqueue
        def refuse(self) -> None:
            raise LookupError("no such user")

        async def perform(self) -> None: ...

    with pytest.raises(LookupError, match="no such user"):
        await Refuses.perform_later()
    assert adapter.envelopes == []


async def test_a_retry_is_an_enqueue() -> None:
    assert isinstance(await outcome_of(Enqueued, b'{"n":1}'), Retried)
    assert RAN == [("before", "default.abc", "default", {"n": 1}), "in", "after", "out"]
    halted = await outcome_of(Enqueued, b'{"n":-1}')
    assert halted == Discarded("its retry was halted by before_enqueue before: negative")


async def test_a_retry_on_another_queue_is_an_enqueue_there() -> None:
    @retry_on(ValueError, queue="elsewhere")
    class EnqueuedElsewhere(Enqueued): ...

    assert isinstance(await outcome_of(EnqueuedElsewhere, b'{"n":1}'), Retried)
    assert RAN[0] == ("before", "default.abc", "elsewhere", {"n": 1})


async def test_an_error_in_the_enqueue_hook_of_a_retry_loses_no_job(caplog: pytest.LogCaptureFixture) -> None:
    class Refuses(Job):
        @before_enqueue
        def refuse(self) -> None:
            raise LookupError("no such user")

        async def perform(self) -> None:
            raise ValueError("boom")

    assert isinstance(await outcome_of(Refuses), Retried)
    assert "it is retried all the same" in caplog.text


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError("leaked")], ids=repr)
async def test_whatever_a_hook_raises_takes_no_outcome_with_it(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    class Wild(Job):
        max_attempts = 2

        @before_enqueue
        def enqueue(self) -> None:
            raise error

        @after_discard
        async def second(self, _: BaseException) -> None:
            RAN.append("second")

        @after_discard
        def first(self, _: BaseException) -> None:
            raise error

        async def perform(self) -> None:
            raise ValueError("boom")

    assert isinstance(await outcome_of(Wild), Retried)
    assert "it is retried all the same" in caplog.text
    assert isinstance(await outcome_of(Wild, failures=1), Dead)
    assert "its after_discard first failed" in caplog.text
    assert RAN == ["second"]
    with pytest.raises(type(error)):  # the caller's own task
        await Wild.set(max_attempts=1).perform_now()


# -- after_discard -------------------------------------------------------------------------------


@discard_on(KeyError)
@retry_on(OSError, attempts=1)
class Ends(Job):
    max_attempts = 2

    @after_discard
    async def note(self, error: BaseException) -> None:
        RAN.append(type(error).__name__)

    @after_discard
    def broken(self, error: BaseException) -> None:
        raise RuntimeError("in the hook")

    @rescue_from(ArithmeticError)
    def rescue(self, error: ArithmeticError) -> None: ...

    async def perform(self, kind: str) -> str | None:
        errors: dict[str, BaseException] = {
            "discard": KeyError("x"),
            "directive": Discard("enough"),
            "exhausted": OSError("x"),
            "dead": ValueError("x"),
            "rescued": ArithmeticError("x"),
        }
        raise errors[kind]


@pytest.mark.acceptance(25)
@pytest.mark.parametrize(
    ("kind", "failures", "outcome", "noted"),
    [
        ("discard", 0, Discarded, ["KeyError"]),
        ("directive", 0, Discarded, ["Discard"]),
        ("exhausted", 0, Dead, ["OSError"]),
        ("dead", 1, Dead, ["ValueError"]),
        ("dead", 0, Retried, []),
    ],
)
async def test_after_discard_runs_once_when_the_job_ends_for_good(
    kind: str, failures: int, outcome: type, noted: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    found = await outcome_of(Ends, b'{"kind":"%s"}' % kind.encode(), failures=failures)

    assert isinstance(found, outcome)
    assert noted == RAN
    assert ("its after_discard broken failed" in caplog.text) == bool(noted)


async def test_after_discard_runs_with_perform_now_too() -> None:
    assert await Ends.perform_now("discard") is None
    with pytest.raises(ValueError, match="x"):
        await Ends.set(max_attempts=1).perform_now("dead")
    assert await Ends.perform_now("rescued") is None
    assert RAN == ["KeyError", "ValueError"]


# -- definitions ---------------------------------------------------------------------------------


def test_hooks_of_the_wrong_shape_are_refused_where_they_are_defined() -> None:
    with pytest.raises(InvalidJob, match=r"Wrong\.around, its around_perform, must be an async generator"):

        class Wrong(Job):  # pyright: ignore[reportUnusedClass] - it is not made
            @around_perform  # type: ignore[type-var] # pyright: ignore[reportArgumentType] - what is tested
            async def around(self) -> None: ...

    with pytest.raises(InvalidJob, match="before_perform, must not yield"):

        class Yields(Job):  # pyright: ignore[reportUnusedClass] - it is not made
            @before_perform
            async def before(self) -> AsyncGenerator[None]:
                yield

    with pytest.raises(InvalidJob, match="after_perform, must take self, and nothing else"):

        class Takes(Job):  # pyright: ignore[reportUnusedClass] - it is not made
            @after_perform  # type: ignore[type-var] # pyright: ignore[reportArgumentType] - what is tested
            def after(self, result: int) -> None: ...

    with pytest.raises(InvalidJob, match="after_discard, must take self and the error"):

        class Lacks(Job):  # pyright: ignore[reportUnusedClass] - it is not made
            @after_discard  # type: ignore[type-var] # pyright: ignore[reportArgumentType] - what is tested
            def discarded(self) -> None: ...

    with pytest.raises(TypeError, match="before_perform decorates a method"):
        before_perform(7)  # type: ignore[type-var] # pyright: ignore[reportArgumentType] - what is tested


@pytest.mark.parametrize("name", callbacks.__all__)
def test_a_callback_decorator_with_parentheses_is_told_to_drop_them(name: str) -> None:
    decorator = getattr(callbacks, name)
    with pytest.raises(TypeError, match=rf"^{name} takes no arguments: write @{name}, without parentheses$"):
        decorator()
    with pytest.raises(TypeError, match="without parentheses"):
        decorator(prepend=True)


def test_a_class_without_hooks_has_none() -> None:
    class Plain(Job):
        async def perform(self) -> None: ...

    assert Plain._hooks is None
