from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from aiojobs_rt import policies
from aiojobs_rt.core.decision import decide, perform_now_raises
from aiojobs_rt.core.durations import MAX_MS
from aiojobs_rt.core.message import MalformedMessage
from aiojobs_rt.errors import (
    DeserializationError,
    Discard,
    InvalidArguments,
    InvalidResult,
    RecordNotFound,
    Retry,
    Snooze,
)
from aiojobs_rt.policies import Decision, exponentially_longer, polynomially_longer

if TYPE_CHECKING:
    from collections.abc import Callable

# Plain classes stand in for jobs: a declaration needs nothing of Job.
retry_on: Any = policies.retry_on
discard_on: Any = policies.discard_on
rescue_from: Any = policies.rescue_from

NEARLY_ONE = 1 - 1e-12


class FlakyError(Exception):
    pass


class SlowError(Exception):
    pass


class Plain: ...


def job_with(*declarations: Callable[[Any], Any]) -> type:
    job: type = type("Job", (), {})
    for declare in declarations:
        job = declare(job)
    return job


def decided(
    job: type,
    error: BaseException,
    *,
    failures: int = 0,
    executions: dict[str, int] | None = None,
    max_attempts: int = 25,
    retry_for_ms: int | None = None,
    first_failed_ago_ms: int = 0,
    random: float = 0.0,
) -> Decision:
    return decide(
        job,
        error,
        failures=failures,
        executions=executions or {},
        max_attempts=max_attempts,
        retry_for_ms=retry_for_ms,
        first_failed_ago_ms=first_failed_ago_ms,
        random=lambda: random,
    )


def life(job: type, errors: list[BaseException], **options: Any) -> list[Decision]:
    """The decisions on a job that fails with these errors, one after the other, its counts kept as a worker keeps them."""
    executions: dict[str, int] = {}
    decisions: list[Decision] = []
    for failures, error in enumerate(errors):
        decision = decided(job, error, failures=failures, executions=executions, **options)
        if decision.key is not None:
            executions[decision.key] = executions.get(decision.key, 0) + 1
        decisions.append(decision)
        if decision.kind not in {"retry", "snooze"}:
            break
    return decisions


# -- the default retry -------------------------------------------------------------------------------

DEFAULT_S = [15, 16, 31, 96, 271, 640, 1311, 2416, 4111, 6576, 10015]
DEFAULT_MOST_S = [25, 36, 61, 136, 321, 700, 1381, 2496, 4201, 6676, 10125]


def test_the_default_backoff_is_the_published_table() -> None:
    assert [decided(Plain, FlakyError(), failures=n).delay_ms for n in range(11)] == [s * 1000 for s in DEFAULT_S]
    most = [decided(Plain, FlakyError(), failures=n, random=NEARLY_ONE).delay_ms for n in range(11)]
    assert most == [s * 1000 for s in DEFAULT_MOST_S]
    assert decided(Plain, FlakyError(), failures=2, random=0.5).delay_ms == 46_000


@pytest.mark.parametrize("max_attempts", [1, 2, 25])
def test_without_a_declaration_a_job_dies_at_max_attempts(max_attempts: int) -> None:
    decisions = life(Plain, [FlakyError()] * 30, max_attempts=max_attempts)
    assert [d.kind for d in decisions] == ["retry"] * (max_attempts - 1) + ["dead"]
    assert f"max_attempts = {max_attempts}" in decisions[-1].reason
    assert decisions[-1].key is None


def test_retry_for_bounds_by_time_instead() -> None:
    def kind(ago_ms: int, failures: int = 0) -> str:
        decision = decided(
            Plain, FlakyError(), failures=failures, max_attempts=1, retry_for_ms=60_000, first_failed_ago_ms=ago_ms
        )
        return decision.kind

    assert [kind(0), kind(59_999, failures=900), kind(60_000), kind(90_000)] == ["retry", "retry", "dead", "dead"]
    late = decided(Plain, FlakyError(), retry_for_ms=60_000, first_failed_ago_ms=90_000)
    assert late.reason == "still failing 90 s after the first failure (retry_for)"


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(),
        asyncio.CancelledError(),
        SystemExit(42),
        KeyboardInterrupt(),
        GeneratorExit(),
        DeserializationError("down"),
        ExceptionGroup("g", [RecordNotFound(), FlakyError()]),
        BaseExceptionGroup("g", [SystemExit(1), FlakyError()]),
        ExceptionGroup("g", [Snooze(1), FlakyError()]),
        ExceptionGroup("g", [Discard(), FlakyError()]),
    ],
    ids=repr,
)
def test_these_are_ordinary_failures(error: BaseException) -> None:
    decision = decided(Plain, error)
    assert (decision.kind, decision.delay_ms, decision.error) == ("retry", 15_000, error)


@pytest.mark.parametrize(
    "error", [InvalidArguments("n"), InvalidResult("r"), MalformedMessage("?"), RecordNotFound("User 42")], ids=repr
)
def test_these_are_dead_at_once_unless_a_declaration_matches(error: Exception) -> None:
    for raised in (error, ExceptionGroup("g", [error])):
        decision = decided(Plain, raised, retry_for_ms=60_000)
        assert (decision.kind, decision.error) == ("dead", error)
        assert type(error).__name__ in decision.reason
    assert decided(job_with(discard_on(type(error))), error).kind == "discard"
    assert decided(job_with(retry_on(Exception)), error).kind == "retry"
    assert decided(job_with(rescue_from(type(error), handler=print)), error).kind == "rescue"
    assert decided(job_with(retry_on(FlakyError)), error).kind == "dead"


def test_a_group_of_one_is_unwrapped_and_a_group_of_several_kept() -> None:
    error = FlakyError()
    several = ExceptionGroup("several", [FlakyError(), SlowError()])
    assert decided(Plain, ExceptionGroup("g", [ExceptionGroup("h", [error])])).error is error
    assert decided(Plain, several).error is several


# -- retry_on ----------------------------------------------------------------------------------------


@pytest.mark.acceptance(23)
def test_attempts_count_the_first_run() -> None:
    decisions = life(job_with(retry_on(FlakyError, wait=10, attempts=3)), [FlakyError()] * 5)
    assert [(d.kind, d.delay_ms) for d in decisions] == [("retry", 10_000), ("retry", 10_000), ("dead", 0)]
    assert "failed 3 times (retry_on(FlakyError), attempts = 3)" in decisions[-1].reason


@pytest.mark.acceptance(24)
def test_each_declaration_counts_for_itself() -> None:
    job = job_with(retry_on(FlakyError, wait=10, attempts=3), retry_on(SlowError, wait=30, attempts=5))
    decisions = life(
        job, [FlakyError(), SlowError(), SlowError(), FlakyError(), SlowError(), SlowError(), FlakyError()]
    )
    assert [d.delay_ms // 1000 for d in decisions] == [10, 30, 30, 10, 30, 30, 0]
    assert decisions[-1].kind == "dead"
    assert "retry_on(FlakyError)" in decisions[-1].reason


def test_errors_of_one_declaration_share_its_count() -> None:
    decisions = life(job_with(retry_on(FlakyError, SlowError, attempts=3)), [FlakyError(), SlowError(), FlakyError()])
    assert [d.kind for d in decisions] == ["retry", "retry", "dead"]


def test_attempts_of_one_is_no_retry() -> None:
    decision = decided(job_with(retry_on(FlakyError, attempts=1)), FlakyError())
    assert (decision.kind, decision.reason) == ("dead", "failed once (retry_on(FlakyError), attempts = 1)")


@pytest.mark.acceptance(73)
@pytest.mark.parametrize("attempts", [50, "unlimited"])
def test_a_declaration_is_bounded_by_nothing_but_itself(attempts: Any) -> None:
    options = {"max_attempts": 1, "retry_for_ms": 1, "first_failed_ago_ms": 1000}
    decisions = life(job_with(retry_on(FlakyError, attempts=attempts)), [FlakyError()] * 60, **options)
    assert len(decisions) == (50 if attempts == 50 else 60)
    assert decisions[-1].kind == ("dead" if attempts == 50 else "retry")


def test_its_failures_count_towards_the_default_bound() -> None:
    job = job_with(retry_on(FlakyError, attempts="unlimited"))
    assert [d.kind for d in life(job, [*[FlakyError()] * 24, SlowError()])][-2:] == ["retry", "dead"]


JITTER = [0.0, 0.5, NEARLY_ONE]


def ten_times(executions: int, error: BaseException) -> int:
    return executions * 10


def seconds(executions: int, error: BaseException) -> timedelta:
    return timedelta(seconds=executions)


def as_told(executions: int, error: BaseException) -> float:
    told: float = error.args[0]
    return told


def at_most_a_minute(executions: int, error: BaseException) -> float:
    return min(polynomially_longer(executions, error), 60)


@pytest.mark.parametrize(
    ("wait", "jitter", "executed", "delays_ms"),
    [
        (10, 0.15, 0, [10_000, 10_750, 11_500]),
        (10, 0.15, 7, [10_000, 10_750, 11_500]),
        (10, 0, 0, [10_000, 10_000, 10_000]),
        (10, 1, 0, [10_000, 15_000, 20_000]),
        (timedelta(minutes=2), 0.5, 0, [120_000, 150_000, 180_000]),
        (0, 1, 0, [0, 0, 0]),
        (0.25, 0, 0, [250, 250, 250]),
        (polynomially_longer, 0.15, 0, [3_000, 3_075, 3_150]),
        (polynomially_longer, 0.15, 1, [18_000, 19_200, 20_400]),
        (polynomially_longer, 0.15, 4, [627_000, 673_875, 720_750]),
        (exponentially_longer, 0.15, 0, [2_000, 2_150, 2_300]),
        (exponentially_longer, 0.15, 30, [3_600_000, 3_870_000, 4_140_000]),
        (ten_times, 1, 1, [20_000, 20_000, 20_000]),
        (seconds, 1, 3, [4_000, 4_000, 4_000]),
        (as_told, 1, 0, [7_000, 7_000, 7_000]),
        (at_most_a_minute, 1, 3, [60_000, 60_000, 60_000]),
    ],
)
def test_waits(wait: Any, jitter: float, executed: int, delays_ms: list[int]) -> None:
    job = job_with(retry_on(FlakyError, wait=wait, jitter=jitter, attempts="unlimited"))
    key = decided(job, FlakyError(7)).key
    assert key is not None
    made = [decided(job, FlakyError(7), executions={key: executed}, random=random) for random in JITTER]
    assert [d.delay_ms for d in made] == delays_ms
    assert {d.note for d in made} == {""}
    assert {type(d.delay_ms) for d in made} == {int}


def test_the_defaults_of_retry_on() -> None:
    decisions = life(job_with(retry_on(FlakyError)), [FlakyError()] * 9, random=NEARLY_ONE)
    assert [(d.kind, d.delay_ms) for d in decisions] == [("retry", 3450)] * 4 + [("dead", 0)]
    assert (decisions[0].queue, decisions[0].priority) == (None, None)


def test_a_retry_goes_where_the_declaration_says() -> None:
    decision = decided(job_with(retry_on(FlakyError, queue="low", priority=0)), FlakyError())
    assert (decision.queue, decision.priority) == ("low", 0)


def test_no_count_makes_a_delay_beyond_a_hundred_years() -> None:
    job = job_with(retry_on(FlakyError, wait=polynomially_longer, attempts="unlimited"))
    key = decided(job, FlakyError()).key
    assert key is not None
    assert decided(job, FlakyError(), executions={key: 2**63}).delay_ms == MAX_MS
    assert decided(Plain, FlakyError(), failures=2**63, max_attempts=2**64).delay_ms == MAX_MS
    assert decided(Plain, Retry(wait=1e300)).delay_ms == MAX_MS
    assert decided(Plain, Snooze(1e300)).delay_ms == MAX_MS


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


def raising(error: BaseException) -> Callable[[int, BaseException], float]:
    def wait(executions: int, cause: BaseException) -> float:
        raise error

    return wait


def returning(make: Callable[[], Any]) -> Callable[[int, BaseException], Any]:
    def wait(executions: int, cause: BaseException) -> Any:
        return make()

    return wait


async def coroutine() -> float:
    return 1.0


def of_wrong_types(executions: int, _: BaseException) -> float:
    return executions + "s"  # type: ignore[operator] # pyright: ignore[reportOperatorIssue] - what is tested


@pytest.mark.parametrize(
    ("wait", "note"),
    [
        (raising(ZeroDivisionError("by zero")), "ZeroDivisionError: by zero"),
        (raising(SystemExit(3)), "SystemExit: 3"),
        (raising(UnprintableError()), "UnprintableError: UnprintableError"),
        (returning(lambda: -1), "-1"),
        (returning(lambda: float("nan")), "nan"),
        (returning(lambda: float("inf")), "inf"),
        (returning(lambda: 10**400), "ValueError"),
        (returning(lambda: None), "got None"),
        (returning(lambda: "10"), "got '10'"),
        (returning(lambda: True), "got True"),
        (returning(coroutine), "got <coroutine"),
        (of_wrong_types, "TypeError"),
    ],
)
def test_a_wait_that_goes_wrong_gives_way_to_the_default_backoff(wait: Any, note: str) -> None:
    job = job_with(retry_on(FlakyError, wait=wait, attempts=9, queue="low"))
    decision = decided(job, FlakyError(), failures=2)
    assert (decision.kind, decision.delay_ms, decision.queue) == ("retry", 31_000, "low")
    assert decision.key is not None
    assert decision.note.startswith("wait of retry_on(FlakyError) failed, the default backoff is used: ")
    assert note in decision.note


def test_on_exhausted_decides_the_end() -> None:
    def give_up(job: object, error: BaseException) -> None: ...

    error = FlakyError()
    decisions = life(
        job_with(retry_on(FlakyError, attempts=2, on_exhausted=give_up)), [FlakyError(), ExceptionGroup("g", [error])]
    )
    assert [(d.kind, d.callback) for d in decisions] == [("retry", None), ("exhausted", give_up)]
    assert decisions[-1].error is error
    assert "attempts = 2" in decisions[-1].reason


# -- discard_on, rescue_from, directives -------------------------------------------------------------


@pytest.mark.acceptance(25)
def test_discard_on_ends_the_job() -> None:
    def note(job: object, error: BaseException) -> None: ...

    error = RecordNotFound("User 42")
    decision = decided(job_with(discard_on(RecordNotFound, callback=note)), ExceptionGroup("g", [error]))
    assert (decision.kind, decision.callback, decision.error) == ("discard", note, error)
    assert decision.reason == "discard_on(RecordNotFound)"
    assert decided(job_with(discard_on(RecordNotFound)), error).callback is None


def test_rescue_from_hands_the_error_to_its_handler() -> None:
    class Job:
        @policies.rescue_from(FlakyError)
        async def handle(self, error: FlakyError) -> None: ...

    error = FlakyError()
    decision = decided(Job, error)
    assert (decision.kind, decision.callback, decision.error) == ("rescue", "handle", error)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("job", [Plain, job_with(discard_on(Exception)), job_with(retry_on(Exception, attempts=1))])
@pytest.mark.parametrize(
    ("directive", "kind", "delay_ms"),
    [
        (Retry(), "retry", 96_000),
        (Retry(wait=0), "retry", 0),
        (Retry(wait=timedelta(seconds=1.5)), "retry", 1500),
        (Snooze(20), "snooze", 20_000),
        (Discard("over"), "discard", 0),
    ],
)
def test_directives_are_obeyed_before_any_declaration(
    job: type, directive: Exception, kind: str, delay_ms: int, *, grouped: bool
) -> None:
    decision = decided(job, ExceptionGroup("g", [directive]) if grouped else directive, failures=3)
    assert (decision.kind, decision.delay_ms, decision.error) == (kind, delay_ms, directive)
    assert (decision.policy, decision.key, decision.callback) == (None, None, None)
    assert decision.reason == ("over" if kind == "discard" else "")


def test_retry_as_a_directive_is_bounded_like_the_default() -> None:
    assert [d.kind for d in life(Plain, [Retry(wait=1)] * 9, max_attempts=3)] == ["retry", "retry", "dead"]
    assert decided(Plain, Retry(wait=1), retry_for_ms=1000, first_failed_ago_ms=1000).kind == "dead"


def test_snooze_costs_nothing_even_at_the_end() -> None:
    assert decided(Plain, Snooze(1), failures=24, max_attempts=25).kind == "snooze"
    assert decided(Plain, Snooze(1), max_attempts=1).kind == "snooze"


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        ([Discard(), Snooze(1), Retry()], "retry"),
        ([Discard(), Snooze(1)], "snooze"),
        ([Discard(), Discard()], "discard"),
    ],
)
def test_of_several_directives_the_one_that_keeps_the_job_is_obeyed(members: list[Exception], kind: str) -> None:
    assert decided(Plain, ExceptionGroup("g", members)).kind == kind


def test_beside_an_error_a_directive_does_not_count() -> None:
    error = FlakyError()
    decision = decided(job_with(discard_on(FlakyError)), ExceptionGroup("g", [Retry(), error]))
    assert (decision.kind, decision.error) == ("discard", error)
    assert decided(Plain, ExceptionGroup("g", [Retry(), RecordNotFound()])).kind == "dead"


# -- perform_now -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job", "error", "raises"),
    [
        (Plain, FlakyError(), True),
        (job_with(retry_on(FlakyError)), FlakyError(), True),
        (job_with(retry_on(FlakyError, attempts=1)), FlakyError(), True),
        (job_with(retry_on(FlakyError, attempts=1, on_exhausted=print)), FlakyError(), False),
        (job_with(discard_on(FlakyError)), FlakyError(), False),
        (job_with(rescue_from(FlakyError, handler=print)), FlakyError(), False),
        (Plain, InvalidArguments(), True),
        (Plain, Retry(), True),
        (Plain, Snooze(1), True),
        (Plain, Discard(), False),
    ],
)
def test_perform_now_raises_what_would_be_retried_or_die(job: type, error: Exception, *, raises: bool) -> None:
    assert perform_now_raises(decided(job, error)) is raises
