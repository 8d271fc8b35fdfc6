"""choose_queue and choose_priority: asked per job, with its arguments, and overruled by set."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from aiojobs_rt import InvalidArguments, InvalidJob, Job, perform_all_later, retry_on
from aiojobs_rt.core.outcome import Retried
from tests.support.recording import RecordingAdapter, as_message, run

ASKED: list[str] = []

pytestmark = pytest.mark.acceptance(20, 21)


@pytest.fixture(autouse=True)
def adapter(monkeypatch: pytest.MonkeyPatch) -> RecordingAdapter:
    ASKED.clear()
    adapter = RecordingAdapter()
    monkeypatch.setattr(Job, "adapter", adapter)
    return adapter


class Transcode(Job):
    """A long film goes onto a queue of its own, and an owner who pays goes first."""

    queue = "videos"
    priority = 3

    def choose_queue(self) -> str:
        ASKED.append("queue")
        return "films" if self.arguments["minutes"] > 60 else self.queue

    def choose_priority(self) -> int:
        ASKED.append(f"priority on {self.queue}")
        return -1 if self.arguments.get("paid") else super().choose_priority()

    async def perform(self, minutes: int, *, paid: bool = False) -> tuple[str, int]:
        return self.queue, self._current().priority


async def test_each_job_goes_where_its_arguments_say(adapter: RecordingAdapter) -> None:
    handle = await Transcode.perform_later(90)
    await Transcode.perform_later(10, paid=True)
    assert [(envelope.queue, envelope.priority) for envelope in adapter.envelopes] == [("films", 3), ("videos", -1)]
    assert handle.queue == "films"
    assert as_message(adapter.envelopes[1]).priority == -1
    assert ASKED == ["queue", "priority on films", "queue", "priority on videos"]
    assert (Transcode.queue, Transcode.priority) == ("videos", 3)


async def test_many_jobs_choose_each_for_itself(adapter: RecordingAdapter) -> None:
    await perform_all_later([Transcode.bind(90, paid=True), Transcode.set(wait=5).bind(10)])
    assert [(e.queue, e.priority, e.delay_ms) for e in adapter.envelopes] == [("films", -1, 0), ("videos", 3, 5000)]


async def test_set_overrules_and_the_method_is_not_asked() -> None:
    bound = Transcode.set(queue="low").bind(90)
    assert (bound.queue, bound.priority, ASKED) == ("low", 3, ["priority on low"])
    ASKED.clear()
    bound = Transcode.set(priority=0).bind(90)
    assert (bound.queue, bound.priority, ASKED) == ("films", 0, ["queue"])
    ASKED.clear()
    bound = Transcode.set(queue="low", priority=0, wait=1).bind(90)
    assert (bound.queue, bound.priority, bound.delay_ms, ASKED) == ("low", 0, 1000, [])


async def test_perform_now_asks_too() -> None:
    assert await Transcode.perform_now(90, paid=True) == ("films", -1)
    assert await Transcode.set(queue="low", priority=9).perform_now(90, paid=True) == ("low", 9)


async def test_the_choice_is_inherited_and_one_of_the_two_is_enough() -> None:
    class OnlyQueue(Job):
        priority = 2

        def choose_queue(self) -> str:
            return "chosen"

    class Child(OnlyQueue):
        async def perform(self) -> None: ...

    class OnlyPriority(Job):
        queue = "named"

        def choose_priority(self) -> int:
            return 7

        async def perform(self) -> None: ...

    class Neither(Job):
        async def perform(self) -> None: ...

    assert (Child.bind().queue, Child.bind().priority) == ("chosen", 2)
    assert (OnlyPriority.bind().queue, OnlyPriority.bind().priority) == ("named", 7)
    assert (Neither._chooses, Neither().choose_queue(), Neither().choose_priority()) == (False, "default", 0)


async def test_arguments_are_those_that_were_given_read_once() -> None:
    seen: list[Any] = []

    class Sees(Job):
        def choose_queue(self) -> str:
            seen.append(dict(self.arguments))
            with pytest.raises(TypeError):
                self.arguments["first"] = 2  # type: ignore[index] # pyright: ignore[reportIndexIssue] - what is tested
            return "default"

        async def perform(self, first: int, /, *rest: float, key: list[int], **more: str) -> None: ...

    numbers: Any = iter([1, 2])
    bound = Sees.bind(1, 2.0, key=numbers, x="y")
    assert seen == [{"first": 1, "rest": (2.0,), "key": [1, 2], "more": {"x": "y"}}]
    assert orjson.loads(bound.args) == {"first": 1, "rest": [2.0], "key": [1, 2], "more": {"x": "y"}}
    wrong: Any = Sees
    with pytest.raises(InvalidArguments):
        wrong.bind("one", key=[])
    assert len(seen) == 1


async def test_a_retry_stays_on_the_queue_that_was_chosen(adapter: RecordingAdapter) -> None:
    @retry_on(ValueError, wait=1)
    class Fails(Job):
        def choose_queue(self) -> str:
            ASKED.append("queue")
            return "chosen"

        def choose_priority(self) -> int:
            return 4

        async def perform(self) -> None:
            assert self.queue == "chosen"
            raise ValueError

    await Fails.perform_later()
    outcome = await run(as_message(adapter.envelopes[0]))
    assert isinstance(outcome, Retried)
    assert (outcome.message.queue, outcome.message.priority, outcome.queue) == ("chosen", 4, None)
    assert ASKED == ["queue"]


@pytest.mark.parametrize(
    ("method", "value", "message"),
    [
        ("choose_queue", "a b", r"Wrong\.choose_queue: 'a b' is not a queue name"),
        ("choose_queue", None, r"Wrong\.choose_queue: None is not a queue name"),
        ("choose_priority", 1.5, r"Wrong\.choose_priority: priority must be an int, got 1\.5"),
        ("choose_priority", 10**7, r"Wrong\.choose_priority: priority must be between"),
    ],
)
async def test_what_is_chosen_is_checked(method: str, value: Any, message: str, adapter: RecordingAdapter) -> None:
    async def perform(self: Any) -> None: ...

    def choose(self: Any) -> Any:
        return value

    wrong: Any = type("Wrong", (Job,), {"perform": perform, method: choose})
    for call in (wrong.perform_later, wrong.perform_now):
        with pytest.raises(InvalidJob, match=message):
            await call()
    assert adapter.envelopes == []


async def test_an_error_in_it_is_the_callers(adapter: RecordingAdapter) -> None:
    class Raises(Job):
        def choose_priority(self) -> int:
            raise LookupError("no such owner")

        async def perform(self) -> None: ...

    for call in (Raises.perform_later, Raises.perform_now):
        with pytest.raises(LookupError, match="no such owner"):
            await call()
    assert adapter.envelopes == []


async def _awaits(self: Any) -> str:
    return "default"


def _yields(self: Any) -> Any:
    yield "default"


def _takes_more(self: Any, minutes: int) -> str:
    return "default"


def _takes_nothing() -> str:
    return "default"


@pytest.mark.parametrize(
    ("choose", "message"),
    [
        (_awaits, r"Wrong\.choose_queue must be a plain method, `def choose_queue\(self\)`: .*nothing can be awaited"),
        (_yields, "must be a plain method"),
        (staticmethod(_takes_nothing), "must be a plain method"),
        (classmethod(_takes_more), "must be a plain method"),
        (property(lambda _: "default"), "must be a plain method"),
        ("films", r"must be a plain method, `def choose_queue\(self\)`$"),
        (_takes_more, r"must take self, and nothing else; the job's arguments are in self\.arguments"),
        (_takes_nothing, "must take self, and nothing else"),
    ],
)
@pytest.mark.parametrize("method", ["choose_queue", "choose_priority"])
def test_what_is_no_plain_method_is_refused_with_the_class(method: str, choose: Any, message: str) -> None:
    with pytest.raises(InvalidJob, match=message.replace("choose_queue", method)):
        type("Wrong", (Job,), {method: choose})
