from __future__ import annotations

import asyncio
import re
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue  # noqa: TC002 - jobs take it

from aiojobs_rt import (
    Bound,
    ConfigurationError,
    EnqueueError,
    InvalidArguments,
    Job,
    PayloadTooLarge,
    RedisAdapter,
    perform_all_later,
)
from aiojobs_rt.adapters.default import adapter_of, default_adapter
from aiojobs_rt.core.bounds import items_in
from aiojobs_rt.core.outcome import SUCCEEDED, Discarded
from aiojobs_rt.enqueue import SLICE
from tests.support.recording import NOW_MS, RecordingAdapter, as_message, run, runtime

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiojobs_rt.adapters.base import Envelope

carried = RecordingAdapter()


class WelcomeMail(Job):
    adapter = carried
    queue = "mailers"
    priority = 2

    async def perform(self, user_id: int, template: str = "welcome") -> bool:
        return True


@pytest.fixture(autouse=True)
def _empty() -> None:  # pyright: ignore[reportUnusedFunction]
    carried.envelopes.clear()
    carried.calls.clear()


async def enqueued(later: Any) -> Envelope:
    handle = await later
    (envelope,) = carried.envelopes
    carried.envelopes.clear()
    assert handle.id == envelope.id
    return envelope


# -- one job -------------------------------------------------------------------------------------


async def test_an_envelope_holds_the_job_as_its_class_says() -> None:
    envelope = await enqueued(WelcomeMail.perform_later(42, template="hi"))
    assert (envelope.queue, envelope.job, envelope.args) == (
        "mailers",
        "WelcomeMail",
        b'{"user_id":42,"template":"hi"}',
    )
    assert (envelope.priority, envelope.delay_ms, envelope.due_ms) == (2, 0, 0)
    assert envelope.id.startswith("mailers.")
    assert len(envelope.id) == len("mailers.") + 22
    assert as_message(envelope).priority == 2
    again = await enqueued(WelcomeMail.perform_later(42, template="hi"))
    assert again.id != envelope.id


@pytest.mark.acceptance(20)
async def test_set_takes_queue_wait_and_priority_together() -> None:
    envelope = await enqueued(WelcomeMail.set(queue="low", wait=1.5, priority=-7).perform_later(1))
    assert (envelope.queue, envelope.delay_ms, envelope.priority) == ("low", 1500, -7)
    assert envelope.id.startswith("low.")
    due = datetime(2030, 1, 1, tzinfo=UTC)
    envelope = await enqueued(WelcomeMail.set(queue="low", wait_until=due, priority=0).perform_later(1))
    assert (envelope.queue, envelope.due_ms, envelope.priority) == ("low", 1_893_456_000_000, 0)
    assert as_message(envelope).priority == 0


async def test_set_does_not_change_the_class_and_may_be_used_again() -> None:
    low = WelcomeMail.set(queue="low")
    assert (await enqueued(low.perform_later(1))).queue == "low"
    assert (await enqueued(low.perform_later(2))).queue == "low"
    assert (await enqueued(WelcomeMail.perform_later(1))).queue == "mailers"


async def test_options_of_one_job_travel_with_it() -> None:
    configured = WelcomeMail.set(timeout=timedelta(minutes=1), max_attempts=3, keep_result=0, expires_in=0.5)
    message = as_message(await enqueued(configured.perform_later(1)))
    assert message.options == {"timeout": 60_000, "max_attempts": 3, "keep_result": 0, "expires_in": 500}
    assert as_message(await enqueued(WelcomeMail.perform_later(1))).options == {}


async def test_a_delay_is_a_number_of_seconds_or_a_timedelta() -> None:
    assert (await enqueued(WelcomeMail.set(wait=0).perform_later(1))).delay_ms == 0
    assert (await enqueued(WelcomeMail.set(wait=2).perform_later(1))).delay_ms == 2000
    assert (
        await enqueued(WelcomeMail.set(wait=timedelta(days=7, milliseconds=3)).perform_later(1))
    ).delay_ms == 604_800_003


@pytest.mark.acceptance(19)
@given(
    when=st.datetimes(min_value=datetime(1975, 1, 1), max_value=datetime(2200, 1, 1)),  # noqa: DTZ001 - the zone comes below
    zone=st.sampled_from(
        [UTC, ZoneInfo("Europe/Vienna"), ZoneInfo("America/St_Johns"), timezone(timedelta(hours=-3, seconds=7))]
    ),
    fold=st.sampled_from([0, 1]),
)
def test_an_instant_of_any_zone_is_exact_to_the_millisecond_and_never_early(
    when: datetime, zone: Any, fold: int
) -> None:
    aware = when.replace(tzinfo=zone, fold=fold)
    since = aware.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    due_ms = WelcomeMail.set(wait_until=aware).bind(1).due_ms
    assert timedelta(0) <= timedelta(milliseconds=due_ms) - since < timedelta(milliseconds=1)


async def test_an_instant_before_the_epoch_means_now_and_not_never() -> None:
    envelope = await enqueued(WelcomeMail.set(wait_until=datetime(1969, 12, 31, tzinfo=UTC)).perform_later(1))
    assert envelope.due_ms == 1


@pytest.mark.acceptance(19)
def test_a_naive_datetime_is_refused_saying_what_to_write() -> None:
    with pytest.raises(
        ValueError, match=r"wait_until must be an aware datetime: 2030-01-01T00:00:00 names no instant.*UTC"
    ):
        WelcomeMail.set(wait_until=datetime(2030, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"wait": 1, "wait_until": datetime(2030, 1, 1, tzinfo=UTC)}, ValueError, "wait or wait_until, not both"),
        ({"wait": -1}, ValueError, "wait must be finite and not negative, got -1"),
        ({"wait": timedelta(seconds=-1)}, ValueError, "wait must be finite and not negative"),
        ({"wait": float("nan")}, ValueError, "wait must be finite"),
        ({"wait": "10"}, TypeError, "wait must be seconds or a timedelta, got '10'"),
        ({"wait": 10**12}, ValueError, "wait is longer than a hundred years"),
        ({"wait_until": 10}, TypeError, "wait_until must be an aware datetime, got 10"),
        ({"queue": "a b"}, ValueError, "'a b' is not a queue name"),
        ({"queue": ""}, ValueError, "'' is not a queue name"),
        ({"queue": 5}, ValueError, "5 is not a queue name"),
        ({"priority": 1.5}, TypeError, r"priority must be an int, got 1\.5"),
        ({"priority": -1_000_001}, ValueError, "priority must be between"),
        ({"timeout": 0}, ValueError, "timeout must be finite and more than 0"),
        ({"max_attempts": 0}, ValueError, "max_attempts must be at least 1"),
        ({"max_attempts": True}, TypeError, "max_attempts must be an int"),
        ({"keep_result": -1}, ValueError, "keep_result must be finite and not negative"),
        ({"expires_in": 0}, ValueError, "expires_in must be finite and more than 0"),
        ({"delay": 1}, TypeError, "delay"),
    ],
)
def test_a_wrong_option_of_set_is_refused_at_once(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        WelcomeMail.set(**options)


@pytest.mark.fault(27)
async def test_wrong_arguments_are_refused_at_the_caller_in_the_words_of_a_call() -> None:
    wrong: Any = WelcomeMail
    for call, message in (
        (wrong.perform_later, r"WelcomeMail\.perform\(\) missing 1 required positional argument: 'user_id'"),
        (lambda: wrong.perform_later(1, "a", "b"), "takes from 1 to 2 positional arguments but 3 were given"),
        (lambda: wrong.perform_later(1, wait=5), "unexpected keyword argument 'wait'"),
        (lambda: wrong.perform_later("x"), "user_id"),
        (lambda: wrong.set(wait=1).perform_later(None), "user_id"),
    ):
        with pytest.raises(InvalidArguments, match=message):
            await call()
    assert carried.calls == []


class TakesSelf(Job):
    adapter = carried

    async def perform(self, number: int, /, **more: int) -> None: ...


async def test_an_argument_may_be_called_self_where_a_call_of_perform_may_have_it() -> None:
    envelope = await enqueued(TakesSelf.set(priority=1).perform_later(1, self=2))
    assert orjson.loads(envelope.args) == {"number": 1, "more": {"self": 2}}
    with pytest.raises(InvalidArguments, match="got multiple values for argument 'self'"):
        WelcomeMail.bind(1, self=2)  # type: ignore[call-arg] # pyright: ignore[reportArgumentType]


@pytest.mark.fault(28)
async def test_a_payload_that_is_too_large_is_refused_with_its_size(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AIOJOBS_RT_MAX_PAYLOAD", "1000")
    assert len(WelcomeMail.bind(1, "x" * 970).args) <= 1000
    with pytest.raises(
        PayloadTooLarge, match=r"WelcomeMail take 1,02\d bytes, more than max_payload \(1,000\): pass an id"
    ):
        await WelcomeMail.perform_later(1, "x" * 1000)
    assert carried.calls == []
    assert issubclass(PayloadTooLarge, EnqueueError)


@pytest.mark.acceptance(72)
def test_the_default_limit_is_128_kib() -> None:
    WelcomeMail.bind(1, "x" * (131_072 - 40))
    with pytest.raises(PayloadTooLarge, match=r"131,072.*AIOJOBS_RT_MAX_PAYLOAD, or max_payload in aiojobs_rt\.toml$"):
        WelcomeMail.bind(1, "x" * 131_072)


def nested(levels: int) -> JsonValue:
    value: JsonValue = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "error"),
    [
        pytest.param("x" * 10_000_000, r"PayloadTooLarge: .* 10,000,\d\d\d bytes", id="10 MB of text"),
        pytest.param(
            dict.fromkeys(map(str, range(1_000_000))),
            "PayloadTooLarge: .* 'value' holds 1,000,000 items",
            id="a million keys",
        ),
        pytest.param([1] * 1_000_000, "PayloadTooLarge: .* 'value' holds 1,000,000 items", id="a million items"),
        pytest.param(
            [dict.fromkeys(map(str, range(1000)))] * 1000,
            r"PayloadTooLarge: .* 'value' holds 1,001,000 items",
            id="a million keys in a list of dicts",
        ),
        pytest.param(
            {"a": [{str(n): [1] * 10 for n in range(7_000)}]},
            r"PayloadTooLarge: .* 'value' holds 77,00. items",
            id="many lists in a dict in a list in a dict",
        ),
        pytest.param(nested(10_000), "InvalidArguments: .* do not fit: .*depth", id="10,000 levels"),
        pytest.param(nested(100), "InvalidArguments: .* nested deeper than 64 levels", id="100 levels"),
        pytest.param("\ud800", "InvalidArguments: .*", id="a lone surrogate"),
    ],
)
def test_what_would_be_too_large_is_refused_at_once(value: JsonValue, error: str) -> None:
    class TakesJson(Job):
        async def perform(self, value: JsonValue) -> None: ...

    def seconds() -> float:
        began = time.process_time()
        with pytest.raises((PayloadTooLarge, InvalidArguments)) as raised:
            TakesJson.bind(value)
        took = time.process_time() - began
        assert re.match(error, f"{raised.type.__name__}: {raised.value}")
        return took

    assert min(seconds() for _ in range(3)) < 0.2


@pytest.mark.parametrize("name", ["rest", "more", "number"])
def test_only_what_travels_item_by_item_is_counted(name: str) -> None:
    """A set of a long list may be small; *args and **kwargs are a list and a dict."""

    class TakesMany(Job):
        async def perform(self, *rest: int, numbers: set[int] | None = None, **more: int) -> None: ...

    many = 70_000
    if name == "number":
        assert TakesMany.bind(numbers=[1] * many).args == b'{"numbers":[1]}'  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        return
    named: Any = dict.fromkeys((f"k{n}" for n in range(many)), 1) if name == "more" else {}
    with pytest.raises(PayloadTooLarge, match=f"'{name}' holds 70,000 items"):
        TakesMany.bind(*[1] * (many if name == "rest" else 0), **named)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (list[dict[str, int]], [dict.fromkeys(map(str, range(1000)), 1)] * 1000),
        (dict[str, list[tuple[int, ...]]], {"a": [(1,) * 1000] * 1000}),
        (list[list[int]] | None, [[1] * 1000] * 1000),
    ],
    ids=str,
)
def test_what_stands_in_a_list_of_lists_is_counted_before_it_is_looked_at(annotation: Any, value: Any) -> None:
    async def perform(self: Job, value: Any) -> None: ...

    perform.__annotations__["value"] = annotation
    takes_nested: Any = type("TakesNested", (Job,), {"perform": perform})

    def seconds() -> float:
        began = time.process_time()
        with pytest.raises(PayloadTooLarge, match="'value' holds 1,00"):
            takes_nested.bind(value)
        return time.process_time() - began

    assert min(seconds() for _ in range(3)) < 0.02


@pytest.mark.parametrize(
    "value", [[], [1], [[], [], {}], [[1, 2], [3]], {"": {}}, {"": [[[0]]]}, [[[[]]] * 9] * 9], ids=str
)
def test_what_is_counted_never_exceeds_half_of_the_bytes(value: Any) -> None:
    """So that nothing is refused as too many items that would have had room."""
    assert 2 * items_in(value, 10**6, 99) <= len(orjson.dumps(value))


async def test_the_handle_says_when_the_job_was_there_already() -> None:
    carried.enqueued = False
    try:
        assert not (await WelcomeMail.perform_later(1)).enqueued
    finally:
        carried.enqueued = True
    assert (await WelcomeMail.perform_later(1)).enqueued


# -- expiry counts from when the job is due ------------------------------------------------------


class ExpiringMail(Job):
    adapter = carried
    expires_in = 10

    async def perform(self) -> None: ...


@pytest.mark.parametrize(
    ("options", "due_ms"),
    [
        ({}, NOW_MS),
        ({"wait": 60}, NOW_MS + 60_000),
        ({"wait_until": datetime(2030, 1, 1, tzinfo=UTC)}, 1_893_456_000_000),
    ],
)
async def test_expiry_counts_from_when_the_job_is_due(options: dict[str, Any], due_ms: int) -> None:
    message = as_message(await enqueued(ExpiringMail.set(**options).perform_later()))
    assert await run(message, using=runtime(now_ms=due_ms + 10_000)) is SUCCEEDED
    late = await run(message, using=runtime(now_ms=due_ms + 10_001))
    assert late == Discarded("expired: not started within 10 s of its time")


async def test_the_delay_of_a_job_travels_only_when_it_can_expire() -> None:
    assert (await enqueued(WelcomeMail.set(wait=60, priority=0).perform_later(1))).meta == b"}"
    assert (await enqueued(ExpiringMail.perform_later())).meta == b"}"
    assert as_message(await enqueued(ExpiringMail.set(wait=60).perform_later())).extra == {"delay": 60_000}
    own = as_message(await enqueued(WelcomeMail.set(wait=60, expires_in=5).perform_later(1)))
    assert (own.extra, own.options) == ({"delay": 60_000}, {"expires_in": 5000})


# -- many jobs -----------------------------------------------------------------------------------


elsewhere = RecordingAdapter()


class CarriedElsewhere(Job):
    adapter = elsewhere
    keep_result = 60

    async def perform(self) -> int:
        return 1


@pytest.mark.acceptance(63)
async def test_many_jobs_go_out_in_slices_in_order() -> None:
    handles = await perform_all_later(WelcomeMail.bind(number) for number in range(2 * SLICE + 5))
    assert carried.calls == [SLICE, SLICE, 5]
    assert [envelope.args for envelope in carried.envelopes] == [b'{"user_id":%d}' % n for n in range(2 * SLICE + 5)]
    assert [handle.id for handle in handles] == [envelope.id for envelope in carried.envelopes]
    assert len({handle.id for handle in handles}) == 2 * SLICE + 5


async def test_many_jobs_may_be_of_any_class_queue_delay_and_adapter() -> None:
    bound: Sequence[Bound[Any]] = [
        WelcomeMail.bind(1),
        CarriedElsewhere.bind(),
        WelcomeMail.set(wait=5, queue="low").bind(2),
        CarriedElsewhere.set(priority=1).bind(),
    ]
    handles = await perform_all_later(bound)
    assert [handle.queue for handle in handles] == ["mailers", "default", "low", "default"]
    assert [envelope.queue for envelope in carried.envelopes] == ["mailers", "low"]
    assert [envelope.priority for envelope in elsewhere.envelopes] == [0, 1]
    assert handles[0].id == carried.envelopes[0].id
    assert handles[3].id == elsewhere.envelopes[1].id
    assert await perform_all_later([]) == []


async def test_a_bound_job_may_be_enqueued_twice() -> None:
    bound = WelcomeMail.bind(1)
    first, second = await perform_all_later([bound, bound])
    assert first.id != second.id


async def test_due_times_of_many_jobs_are_spread_evenly_on_top_of_their_own() -> None:
    due = datetime(2030, 1, 1, tzinfo=UTC)
    waits, at_instant = WelcomeMail.set(wait=60).bind(2), WelcomeMail.set(wait_until=due).bind(3)
    bound: Sequence[Bound[Any]] = [WelcomeMail.bind(1), waits, at_instant, WelcomeMail.bind(4)]
    await perform_all_later(bound, spread=timedelta(seconds=10))
    assert [(envelope.delay_ms, envelope.due_ms) for envelope in carried.envelopes] == [
        (0, 0),
        (62_500, 0),
        (0, 1_893_456_005_000),
        (7_500, 0),
    ]
    assert (waits.delay_ms, at_instant.due_ms) == (60_000, 1_893_456_000_000)


async def test_jobs_are_spread_across_slices_and_the_last_is_due_before_the_end() -> None:
    await perform_all_later((WelcomeMail.bind(number) for number in range(2 * SLICE)), spread=3600)
    delays = [envelope.delay_ms for envelope in carried.envelopes]
    assert delays == [1800 * number for number in range(2 * SLICE)]
    assert await perform_all_later([], spread=5) == []


async def test_expiry_counts_from_the_spread_due_time() -> None:
    await perform_all_later([WelcomeMail.set(expires_in=5).bind(number) for number in range(2)], spread=60)
    first, second = (as_message(envelope) for envelope in carried.envelopes)
    assert first.extra == {}
    assert second.extra == {"delay": 30_000}


async def test_a_wrong_spread_raises_before_anything_is_sent() -> None:
    wrong: Any = "10"
    with pytest.raises(TypeError, match="spread must be seconds or a timedelta, got '10'"):
        await perform_all_later([WelcomeMail.bind(1)], spread=wrong)
    with pytest.raises(ValueError, match="spread must be finite and not negative, got -1"):
        await perform_all_later([WelcomeMail.bind(1)], spread=-1)
    assert carried.calls == []


@pytest.mark.acceptance(63)
async def test_each_handle_says_whether_its_job_was_enqueued() -> None:
    elsewhere.enqueued = False
    try:
        handles = await perform_all_later([WelcomeMail.bind(1), CarriedElsewhere.bind(), WelcomeMail.bind(2)])
    finally:
        elsewhere.enqueued = True
    assert [handle.enqueued for handle in handles] == [True, False, True]
    assert sum(handle.enqueued for handle in handles) == 2


class SealedOne(Job):
    encrypted = True

    async def perform(self) -> None: ...


async def test_a_job_that_can_not_be_sealed_raises_before_a_slice_ahead_of_it_is_sent() -> None:
    with pytest.raises(ConfigurationError, match="SealedOne"):
        await perform_all_later([*(WelcomeMail.bind(user) for user in range(SLICE)), SealedOne.bind()])
    assert carried.calls == []


async def test_one_wrong_job_among_many_raises_before_anything_is_sent() -> None:
    wrong: Any = WelcomeMail
    with pytest.raises(InvalidArguments):
        await perform_all_later(wrong.bind(user) for user in (1, "x", 3))
    with pytest.raises(TypeError, match=r"takes bound jobs.*got a dict, and enqueued nothing"):
        await perform_all_later([WelcomeMail.bind(1), {}])  # type: ignore[list-item] # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="got the class WelcomeMail"):
        await perform_all_later([WelcomeMail])  # type: ignore[list-item] # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match=r"got a coroutine \(write bind in the place of perform_later\)"):
        await perform_all_later([WelcomeMail.bind(1), wrong.perform_later(2)])
    assert carried.calls == []


# -- adapters ------------------------------------------------------------------------------------


def test_the_adapter_is_the_classes_own_else_the_default_one(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AIOJOBS_RT_REDIS_URL", "redis://example.invalid:1234/5")

    class Plain(Job):
        async def perform(self) -> None: ...

    assert adapter_of(WelcomeMail) is carried
    assert isinstance(adapter_of(Plain), RedisAdapter)
    assert adapter_of(Plain) is default_adapter()
    assert "example.invalid" in repr(default_adapter())


async def test_cancelling_the_caller_cancels_the_call_of_the_adapter() -> None:
    class Stuck(RecordingAdapter):
        left = False

        async def enqueue(self, envelopes: Sequence[Envelope], /) -> list[bool]:
            try:
                await asyncio.Event().wait()
            finally:
                self.left = True
            return []

    stuck = Stuck()

    class Waits(Job):
        adapter = stuck

        async def perform(self) -> None: ...

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await Waits.perform_later()
    assert stuck.left
