from __future__ import annotations

import asyncio
import functools
import math
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest

from aiojobs_rt import policies
from aiojobs_rt.errors import Discard, Retry, Snooze
from aiojobs_rt.policies import (
    DiscardOn,
    RescueFrom,
    RetryOn,
    exponentially_longer,
    find_policy,
    polynomially_longer,
    run_callback,
)
from tests.support.naming import stable_id

# Plain classes stand in for jobs: a declaration needs nothing of Job.
retry_on: Any = policies.retry_on
discard_on: Any = policies.discard_on
rescue_from: Any = policies.rescue_from


class FlakyError(Exception):
    pass


class VeryFlakyError(FlakyError):
    pass


class GoneError(Exception):
    pass


class BatchFailed(ExceptionGroup[Exception]):
    pass


class FlakyGroupError(FlakyError, ExceptionGroup[Exception]):
    pass


def declared(job_class: type, error: BaseException) -> Any:
    found = find_policy(job_class, error)
    return None if found is None else found[0]


async def async_wait(executions: int, error: BaseException) -> float:
    return 1.0


class AsyncWait:
    async def __call__(self, executions: int, error: BaseException) -> float:
        return 1.0


# -- what is refused ---------------------------------------------------------------------------------


def forgets(_job: Any) -> None: ...


def takes_any(*_: Any) -> None: ...


@pytest.mark.acceptance(73)
@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"wait": -1}, ValueError, "wait .* -1"),
        ({"wait": timedelta(seconds=-1)}, ValueError, "wait .*timedelta"),
        ({"wait": math.nan}, ValueError, "wait .* nan"),
        ({"wait": math.inf}, ValueError, "wait .* inf"),
        ({"wait": 1e12}, ValueError, "wait .* 1000000000000.0"),
        ({"wait": 10**400}, ValueError, "longer than a hundred years"),
        ({"wait": "3"}, TypeError, "wait .* '3'"),
        ({"wait": None}, TypeError, "wait .* None"),
        ({"wait": True}, TypeError, "wait .* True"),
        ({"wait": async_wait}, TypeError, "wait must be sync, got .*async_wait"),
        ({"wait": functools.partial(async_wait)}, TypeError, "wait must be sync, got .*async_wait"),
        ({"wait": AsyncWait()}, TypeError, "wait must be sync, got .*AsyncWait"),
        ({"attempts": 0}, ValueError, "attempts .* 0"),
        ({"attempts": -3}, ValueError, "attempts .* -3"),
        ({"attempts": 2.5}, TypeError, "attempts .* 2.5"),
        ({"attempts": True}, TypeError, "attempts .* True"),
        ({"attempts": "forever"}, TypeError, "attempts .* 'forever'"),
        ({"attempts": None}, TypeError, "attempts .* None"),
        ({"jitter": -0.1}, ValueError, "jitter .* -0.1"),
        ({"jitter": 1.01}, ValueError, "jitter .* 1.01"),
        ({"jitter": math.nan}, ValueError, "jitter .* nan"),
        ({"jitter": "a lot"}, TypeError, "jitter .* 'a lot'"),
        ({"jitter": True}, TypeError, "jitter .* True"),
        ({"queue": ""}, ValueError, "'' is not a queue name"),
        ({"queue": "a b"}, ValueError, "'a b' is not a queue name"),
        ({"queue": "q" * 65}, ValueError, "is not a queue name"),
        ({"queue": "low\n"}, ValueError, r"'low\\n' is not a queue name"),
        ({"priority": "high"}, TypeError, "priority .* 'high'"),
        ({"priority": True}, TypeError, "priority .* True"),
        ({"on_exhausted": 42}, TypeError, "on_exhausted .* 42"),
        ({"wait": lambda: 3}, TypeError, "wait must take two arguments, the failures so far and the error"),
        ({"wait": functools.partial(forgets)}, TypeError, "wait must take two arguments"),
        ({"on_exhausted": forgets}, TypeError, "on_exhausted must take two arguments, the job and the error"),
    ],
)
def test_a_wrong_option_of_retry_on_is_refused_by_name_and_value(
    options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message) as refused:
        retry_on(FlakyError, **options)
    assert type(refused.value) is kind
    assert str(refused.value).startswith("retry_on(FlakyError): ")


def test_a_handler_that_does_not_take_the_error_is_refused() -> None:
    with pytest.raises(
        TypeError, match=r"discard_on\(FlakyError\): callback must take two arguments, the job and the error"
    ):
        discard_on(FlakyError, callback=forgets)  # pyright: ignore[reportArgumentType] - what is tested
    with pytest.raises(TypeError, match=r"rescue_from\(FlakyError\): .*forgets must take self and the error"):
        rescue_from(FlakyError)(forgets)  # pyright: ignore[reportArgumentType] - what is tested
    job = type("Job", (), {"forgets": forgets, "told": staticmethod(forgets)})
    with pytest.raises(TypeError, match=r"discard_on\(FlakyError\): Job\.forgets must take self and the error"):
        discard_on(FlakyError, callback="forgets")(job)
    discard_on(FlakyError, callback="told")(job)  # a static one is given the error alone
    rescue_from(FlakyError, handler=takes_any)(job)


@pytest.mark.parametrize(
    "options",
    [
        {"wait": 0},
        {"wait": timedelta(0)},
        {"wait": polynomially_longer},
        {"attempts": 1},
        {"attempts": "unlimited"},
        {"jitter": 0},
        {"jitter": 1},
        {"queue": "q" * 64},
        {"priority": -1},
    ],
)
def test_what_lies_on_the_edge_is_taken(options: dict[str, Any]) -> None:
    job = retry_on(FlakyError, **options)(type("Job", (), {}))
    for name, value in options.items():
        assert getattr(declared(job, FlakyError()), name) == value


@pytest.mark.parametrize("decorator", [retry_on, discard_on, rescue_from])
@pytest.mark.parametrize(
    ("errors", "kind", "message"),
    [
        ((), ValueError, "at least one exception class"),
        ((int,), TypeError, "<class 'int'>"),
        (("FlakyError",), TypeError, "'FlakyError'"),
        ((FlakyError(),), TypeError, r"FlakyError\(\)"),
        (((FlakyError, GoneError),), TypeError, "each as an argument of its own"),
        ((FlakyError, None), TypeError, "None"),
        ((Retry,), TypeError, "Retry is no error"),
        ((Snooze,), TypeError, "Snooze is no error"),
        ((Discard,), TypeError, "Discard is no error"),
    ],
)
def test_what_is_no_error_class_is_refused(
    decorator: Any, errors: tuple[Any, ...], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=f"{decorator.__name__}.*{message}"):
        decorator(*errors)


@pytest.mark.parametrize(
    "decorate",
    [
        retry_on(FlakyError, on_exhausted="report"),
        discard_on(FlakyError, callback="report"),
        rescue_from(FlakyError, handler="report"),
    ],
)
def test_a_named_method_must_exist(decorate: Any) -> None:
    class Base:
        def report(self, error: Exception) -> None: ...

    class Heir(Base): ...

    class Without: ...

    class NoMethod:
        report = "daily"

    assert decorate(Heir) is Heir
    for wrong in (Without, NoMethod):
        with pytest.raises(TypeError, match=rf"\(FlakyError\): .*{wrong.__name__} has no method 'report'"):
            decorate(wrong)
        assert find_policy(wrong, FlakyError()) is None


def test_what_is_decorated_must_be_a_class_or_for_rescue_from_a_method() -> None:
    def perform() -> None: ...

    for decorate in (retry_on(FlakyError), discard_on(FlakyError), rescue_from(FlakyError, handler=print)):
        with pytest.raises(TypeError, match="decorates a job class, got <function"):
            decorate(perform)
    with pytest.raises(TypeError, match="on the class GoneError needs handler="):
        rescue_from(FlakyError)(GoneError)
    with pytest.raises(TypeError, match="decorates a method"):
        rescue_from(FlakyError)(staticmethod(perform))
    with pytest.raises(TypeError, match=r"callback .* 42"):
        discard_on(FlakyError, callback=42)
    with pytest.raises(TypeError, match=r"handler .* 42"):
        rescue_from(FlakyError, handler=42)


# -- the search --------------------------------------------------------------------------------------


def test_the_declaration_lowest_in_the_text_is_found_first() -> None:
    @retry_on(Exception)
    @discard_on(FlakyError)
    class SpecialBelow: ...

    @discard_on(FlakyError)
    @retry_on(Exception)
    class GeneralBelow: ...

    assert isinstance(declared(SpecialBelow, FlakyError()), DiscardOn)
    assert isinstance(declared(SpecialBelow, GoneError()), RetryOn)
    assert isinstance(declared(GeneralBelow, FlakyError()), RetryOn)


def test_methods_come_before_decorators_and_the_lowest_of_them_first() -> None:
    @discard_on(Exception)
    class Job:
        @policies.rescue_from(FlakyError)
        def first(self, error: Exception) -> None: ...

        @policies.rescue_from(GoneError)
        @policies.rescue_from(VeryFlakyError)
        def second(self, error: Exception) -> None: ...

    assert declared(Job, FlakyError()).handler == "first"
    assert declared(Job, VeryFlakyError()).handler == "second"
    assert declared(Job, GoneError()).handler == "second"
    assert isinstance(declared(Job, OSError()), DiscardOn)


@pytest.mark.acceptance(14, 28)
def test_a_class_comes_before_its_bases_in_the_order_of_the_mro() -> None:
    @retry_on(Exception, attempts=2)
    class Base:
        @policies.rescue_from(GoneError)
        def handle(self, error: Exception) -> None: ...

    @retry_on(OSError, attempts=3)
    class Mixin: ...

    @discard_on(FlakyError)
    class Heir(Mixin, Base): ...

    assert isinstance(declared(Heir, VeryFlakyError()), DiscardOn)
    assert declared(Heir, OSError()).attempts == 3
    assert declared(Heir, ValueError()).attempts == 2
    assert isinstance(declared(Heir, GoneError()), RescueFrom)
    assert isinstance(declared(Base, FlakyError()), RetryOn), "the heir's declaration is not its base's"
    assert find_policy(Heir, SystemExit()) is None


def test_declarations_are_kept_on_their_own_class_only() -> None:
    @retry_on(FlakyError)
    class Base: ...

    class Heir(Base): ...

    assert "_policies" not in vars(Heir)
    discard_on(GoneError)(Heir)
    assert [type(policy) for policy in vars(Base)["_policies"]] == [RetryOn]
    assert [type(policy) for policy in vars(Heir)["_policies"]] == [DiscardOn]


def test_a_declaration_made_late_on_a_base_is_seen() -> None:
    class Base: ...

    class Heir(Base): ...

    assert find_policy(Heir, FlakyError()) is None
    retry_on(FlakyError)(Base)
    assert isinstance(declared(Heir, FlakyError()), RetryOn)


def test_one_decorator_serves_several_classes() -> None:
    flaky = retry_on(FlakyError, attempts=7)
    first, second = flaky(type("First", (), {})), flaky(type("Second", (), {}))
    assert declared(first, FlakyError()).attempts == declared(second, FlakyError()).attempts == 7
    assert declared(first, FlakyError()).key == declared(second, FlakyError()).key


def test_an_error_that_leaks_out_is_matched_when_it_is_named() -> None:
    @retry_on(Exception)
    @discard_on(asyncio.CancelledError)
    class Job: ...

    assert isinstance(declared(Job, asyncio.CancelledError()), DiscardOn)
    assert find_policy(Job, KeyboardInterrupt()) is None


@pytest.mark.parametrize("directive", [Retry(), Discard(), Snooze(1), ExceptionGroup("g", [Retry(), Discard()])])
def test_directives_match_no_declaration(directive: Exception) -> None:
    assert find_policy(discard_on(Exception)(type("Job", (), {})), directive) is None


# -- exception groups --------------------------------------------------------------------------------


@discard_on(OSError)
@retry_on(FlakyError, attempts=4)
@retry_on(BatchFailed, attempts=9)
@discard_on(GoneError)
class Grouped: ...


FLAKY, GONE, OTHER = FlakyError("f"), GoneError("g"), ValueError("o")
BATCH = BatchFailed("b", [OTHER, KeyError("k")])
FLAKY_GROUP = FlakyGroupError("f", [OTHER])


@pytest.mark.parametrize(
    ("error", "kind", "matched"),
    [
        (ExceptionGroup("one", [FLAKY]), RetryOn, FLAKY),
        (ExceptionGroup("deep", [ExceptionGroup("deeper", [GONE])]), DiscardOn, GONE),
        (ExceptionGroup("retry beside unknown", [OTHER, FLAKY]), RetryOn, FLAKY),
        (ExceptionGroup("retry beside discard", [GONE, FLAKY]), RetryOn, FLAKY),
        (ExceptionGroup("discard beside unknown", [GONE, OTHER]), None, None),
        (ExceptionGroup("unknown", [OTHER]), None, None),
        (ExceptionGroup[Exception]("all discarded", [GONE, ExceptionGroup("in", [GoneError()])]), DiscardOn, GONE),
        (ExceptionGroup("by two declarations", [OSError(), GONE]), DiscardOn, GONE),
        (BaseExceptionGroup("leaked", [SystemExit(1), FLAKY]), RetryOn, FLAKY),
        (BATCH, RetryOn, BATCH),
        (ExceptionGroup("around", [BATCH]), RetryOn, BATCH),
        (FLAKY_GROUP, RetryOn, FLAKY_GROUP),
        (ExceptionGroup("directive beside", [Retry(), GONE]), DiscardOn, GONE),
    ],
    ids=lambda value: value.message if isinstance(value, BaseExceptionGroup) else "",
)
def test_a_group_is_judged_by_its_members(
    error: BaseException, kind: type | None, matched: BaseException | None
) -> None:
    found = find_policy(Grouped, error)
    if kind is None:
        assert found is None
    else:
        assert found is not None
        assert isinstance(found[0], kind)
        assert found[1] is matched


def test_rescue_needs_every_member_too() -> None:
    job = rescue_from(FlakyError, handler=print)(type("Job", (), {}))
    assert find_policy(job, ExceptionGroup("g", [FlakyError(), FlakyError()])) is not None
    assert find_policy(job, ExceptionGroup("g", [FlakyError(), GoneError()])) is None


def test_a_group_nested_beyond_the_recursion_limit_is_looked_into() -> None:
    error: Exception = FLAKY
    for _ in range(3000):
        inner: list[Exception] = [error]
        error = ExceptionGroup("g", inner)
    found = find_policy(Grouped, error)
    assert found is not None
    assert found[1] is FLAKY


# -- keys --------------------------------------------------------------------------------------------


def key_of(*errors: type[BaseException], on: type | None = None) -> str:
    job = retry_on(*errors)(on or type("Job", (), {}))
    key: str = vars(job)["_policies"][-1].key
    return key


def test_a_key_is_made_of_the_names_whatever_their_order() -> None:
    assert key_of(ValueError) == "ValueError"
    assert key_of(ValueError, KeyError, ValueError) == key_of(KeyError, ValueError) == "KeyError,ValueError"
    assert key_of(FlakyError) == f"{FlakyError.__module__}.FlakyError"


def test_classes_of_one_name_in_two_modules_have_two_keys() -> None:
    foreign = type("ConnectionError", (Exception,), {"__module__": "httpz"})
    assert key_of(ConnectionError) != key_of(foreign)


def test_long_keys_are_cut_short_and_stay_apart() -> None:
    many = [type(f"Error{n}", (Exception,), {"__module__": "a.rather.long.module.name"}) for n in range(9)]
    first, second = key_of(*many), key_of(*many[:8])
    assert len(first) == len(second) == 64
    assert first != second
    assert first.startswith("a.rather.long.module.name.Error0,")


def test_a_key_is_the_same_in_another_process() -> None:
    errors = "ConnectionError, TimeoutError, ValueError, KeyError, OSError, RuntimeError, UnicodeDecodeError"
    program = f"from aiojobs_rt.policies import *\nprint(retry_on({errors})(type('J', (), {{}}))._policies[0].key)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    errors_here = [getattr(__import__("builtins"), name) for name in errors.split(", ")]
    assert run.stdout.strip() == key_of(*errors_here)
    assert "~" in run.stdout


def test_two_declarations_of_the_same_errors_on_one_class_count_apart() -> None:
    job = type("Job", (), {})
    assert [key_of(KeyError, ValueError, on=job), key_of(ValueError, KeyError, on=job)] == [
        "KeyError,ValueError",
        "KeyError,ValueError#2",
    ]
    assert key_of(KeyError, ValueError, on=job) == "KeyError,ValueError#3"
    assert key_of(KeyError, on=job) == "KeyError"


# -- formulas ----------------------------------------------------------------------------------------

POLYNOMIAL_S = [3, 18, 83, 258, 627, 1298, 2403, 4098, 6563, 10002]
EXPONENTIAL_S = [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600, 3600]


def test_the_formulas_give_the_published_values() -> None:
    assert [polynomially_longer(n) for n in range(1, 11)] == POLYNOMIAL_S
    assert [exponentially_longer(n) for n in range(1, 15)] == EXPONENTIAL_S
    assert exponentially_longer(10**18) == 3600, "a count out of all bounds costs no memory"


# -- callbacks ---------------------------------------------------------------------------------------


class Reporter:
    def __init__(self) -> None:
        self.seen: list[BaseException] = []

    def note(self, error: BaseException) -> str:
        self.seen.append(error)
        return "noted"

    async def note_later(self, error: BaseException) -> str:
        await asyncio.sleep(0)
        return self.note(error)


async def later(job: Reporter, error: BaseException) -> str:
    return await job.note_later(error)


@pytest.mark.parametrize("callback", ["note", "note_later", Reporter.note, later], ids=stable_id)
async def test_a_callback_is_a_name_or_a_function_sync_or_async(callback: Any) -> None:
    job, error = Reporter(), FlakyError()
    assert await run_callback(callback, job, error) == "noted"
    assert job.seen == [error]


@pytest.mark.acceptance(28)
async def test_a_subclass_overrides_a_handler_by_its_name() -> None:
    class Base:
        @policies.rescue_from(FlakyError)
        async def handle(self, error: Exception) -> str:
            return "base"

    class Heir(Base):
        async def handle(self, error: Exception) -> str:
            return "heir"

    assert await run_callback(declared(Heir, FlakyError()).handler, Heir(), FlakyError()) == "heir"


async def test_what_a_callback_raises_is_passed_on() -> None:
    def fail(job: object, error: BaseException) -> None:
        raise GoneError

    with pytest.raises(GoneError):
        await run_callback(fail, object(), FlakyError())
