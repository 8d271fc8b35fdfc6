"""Natural batching: nothing waits for a timer, and what arrives during a call goes out together with the next one."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

import pytest

from aiojobs_rt.adapters.redis.batching import MAX_BYTES, MAX_JOBS, Batcher

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


brought_by = ContextVar("brought_by", default="nobody")


class Item:
    def __init__(self, name: int, *, jobs: int = 1, size: int = 100) -> None:
        self.name = name
        self.jobs = jobs
        self.size = size
        self.answered: asyncio.Future[Any] | None = None


class Line:
    """Where batches go: each call waits until it is let through."""

    def __init__(self, *, open_: bool = True) -> None:
        self.sent: list[list[int]] = []
        self.answer: BaseException | None = None
        self._open = asyncio.Event()
        if open_:
            self._open.set()

    def open(self) -> None:
        self._open.set()

    async def send(self, items: list[Item]) -> Sequence[Any]:
        self.sent.append([item.name for item in items])
        await self._open.wait()
        if self.answer is not None:
            raise self.answer
        return [item.name * 10 for item in items]


async def turn(times: int = 3) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


async def test_an_item_leaves_at_once_when_idle() -> None:
    line = Line()
    batcher = Batcher[Item](line.send)
    assert await batcher.put(Item(1)) == 10
    assert await batcher.put(Item(2)) == 20
    assert line.sent == [[1], [2]]


async def test_what_arrives_during_a_call_goes_together_and_in_order() -> None:
    line = Line(open_=False)
    batcher = Batcher[Item](line.send)
    first = batcher.put(Item(0))
    await turn()
    rest = [batcher.put(Item(n)) for n in range(1, 50)]
    assert (line.sent, len(batcher)) == ([[0]], 49)
    line.open()
    assert await asyncio.gather(first, *rest) == [n * 10 for n in range(50)]
    assert line.sent == [[0], [*range(1, 50)]]


async def test_a_batch_is_bounded_by_jobs_and_by_bytes() -> None:
    line = Line()
    batcher = Batcher[Item](line.send)
    await asyncio.gather(*(batcher.put(Item(n)) for n in range(MAX_JOBS + 1)))
    assert [len(batch) for batch in line.sent] == [MAX_JOBS, 1]
    line.sent.clear()
    third = MAX_BYTES // 3 + 1
    await asyncio.gather(*(batcher.put(Item(n, size=third)) for n in range(5)))
    assert line.sent == [[0, 1], [2, 3], [4]]
    line.sent.clear()
    await asyncio.gather(batcher.put(Item(0)), batcher.put(Item(1, size=3 * MAX_BYTES)), batcher.put(Item(2)))
    assert line.sent == [[0], [1], [2]]  # one that is larger than the bound goes alone


async def test_how_many_a_batch_may_hold_is_asked_for_each_batch() -> None:
    line = Line()
    bounds = chain((3, 2), repeat(100))
    batcher = Batcher[Item](line.send, most=lambda: next(bounds))
    await asyncio.gather(*(batcher.put(Item(n)) for n in range(8)))
    assert line.sent == [[0, 1, 2], [3, 4], [5, 6, 7]]
    line.sent.clear()
    await asyncio.gather(batcher.put(Item(0, jobs=600)), batcher.put(Item(1, jobs=600)))
    assert line.sent == [[0], [1]]


async def test_an_item_whose_caller_was_cancelled_before_is_not_sent() -> None:
    line = Line(open_=False)
    batcher = Batcher[Item](line.send)
    futures = [batcher.put(Item(n)) for n in range(4)]
    futures[2].cancel()
    await turn()
    futures[0].cancel()  # on its way
    later = batcher.put(Item(9))
    later.cancel()
    line.open()
    assert [await futures[1], await futures[3]] == [10, 30]
    assert line.sent == [[0, 1, 3]]
    await batcher.aclose()
    assert len(batcher) == 0


async def test_an_error_goes_to_the_callers_of_its_batch_only() -> None:
    line = Line(open_=False)
    batcher = Batcher[Item](line.send)
    futures = [batcher.put(Item(n)) for n in range(3)]
    await turn()
    line.answer = OSError("gone")
    futures[1].cancel()
    line.open()
    results = await asyncio.gather(*futures, return_exceptions=True)
    assert [type(result) for result in results] == [OSError, asyncio.CancelledError, OSError]
    line.answer = None
    assert await batcher.put(Item(5)) == 50


async def test_an_answer_that_is_an_exception_goes_to_its_own_caller() -> None:
    async def send(items: list[Item]) -> Sequence[Any]:
        return [ValueError("no") if item.name == 1 else item.name for item in items]

    batcher = Batcher[Item](send)
    results = await asyncio.gather(*(batcher.put(Item(n)) for n in range(3)), return_exceptions=True)
    assert (results[0], results[2]) == (0, 2)
    assert isinstance(results[1], ValueError)


async def test_items_of_which_nobody_waits_for_the_answer() -> None:
    sent: list[int] = []

    async def send(items: list[Item]) -> None:
        sent.extend(item.name for item in items)

    batcher = Batcher[Item](send)
    for n in range(5):
        batcher.add(Item(n))
    await batcher.aclose()
    assert sent == [*range(5)]


def test_a_loop_that_ends_cancels_who_waits_and_leaves_no_task() -> None:
    futures: list[asyncio.Future[Any]] = []

    async def main() -> None:
        batcher = Batcher[Item](Line(open_=False).send)
        futures.append(batcher.put(Item(1)))
        await turn()
        futures.append(batcher.put(Item(2)))

    asyncio.run(main())
    assert [future.cancelled() for future in futures] == [True, True]


async def test_a_cancelled_caller_takes_nothing_down_with_it() -> None:
    line = Line(open_=False)
    batcher = Batcher[Item](line.send)

    async def call(name: int) -> Any:
        return await batcher.put(Item(name))

    callers = [asyncio.create_task(call(n)) for n in range(3)]
    await turn()
    callers[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await callers[0]
    line.open()
    assert await asyncio.gather(*callers[1:]) == [10, 20]


async def test_the_sender_has_nothing_of_the_context_that_brought_the_first_item() -> None:
    """What it logs would name that caller's job."""
    seen: list[str] = []

    async def send(items: list[Item]) -> Sequence[Any]:
        seen.append(brought_by.get())
        return [None] * len(items)

    batcher: Batcher[Item] = Batcher(send)
    brought_by.set("the first caller")
    await batcher.put(Item(1))
    assert seen == ["nobody"]


# -- batches that are begun, without a task ---------------------------------------------------------


class Begins(Line):
    """Also takes batches without a task, and answers when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[list[int]] = []
        self.items: list[Item] = []
        self.takes = True
        self._answered: Callable[[Sequence[Any] | None], None] | None = None
        self.context = ""

    def begin(self, items: list[Item], answered: Callable[[Sequence[Any] | None], None]) -> bool:
        if not self.takes:
            return False
        self.begun.append([item.name for item in items])
        self.items, self._answered = items, answered
        return True

    async def send(self, items: list[Item]) -> Sequence[Any]:
        self.context = brought_by.get()
        assert not self.items or items is self.items, "what was begun is sent as it is"
        self.items = []
        return await super().send(items)

    def reply(self, *, fail: bool = False) -> None:
        answered, self._answered = self._answered, None
        assert answered is not None
        if fail:
            answered(None)
        else:
            items, self.items = self.items, []
            answered([item.name * 10 for item in items])


@pytest.fixture
def line() -> Begins:
    return Begins()


@pytest.fixture
def batcher(line: Begins) -> Batcher[Item]:
    return Batcher(line.send, begin=line.begin)


async def test_one_alone_is_begun_in_its_callers_own_step(line: Begins, batcher: Batcher[Item]) -> None:
    tasks = asyncio.all_tasks()
    for name in (1, 2):
        future = batcher.put(Item(name))
        assert line.begun[-1] == [name]
        assert asyncio.all_tasks() == tasks
        line.reply()
        assert future.result() == name * 10
    await batcher.aclose()
    assert line.sent == []


async def test_callers_that_were_answered_together_go_out_together(line: Begins, batcher: Batcher[Item]) -> None:
    async def call(first: int) -> None:
        for name in (first, first + 100):
            assert await batcher.put(Item(name)) == name * 10

    calls = [asyncio.create_task(call(name)) for name in range(50)]
    await turn()
    while line.items:
        line.reply()
        await turn()
    await asyncio.gather(*calls)
    assert line.begun == [[0], [*range(1, 50), 100], [*range(101, 150)]]


async def test_what_fails_is_sent_by_a_task_then_the_next_is_begun(line: Begins, batcher: Batcher[Item]) -> None:
    brought_by.set("a caller")
    one, two = batcher.put(Item(1)), batcher.put(Item(2))
    line.reply(fail=True)
    assert await one == 10
    await turn()
    assert (line.sent, line.begun, line.context) == ([[1]], [[1], [2]], "nobody")
    line.reply()
    assert await two == 20


async def test_what_fails_is_not_sent_when_nobody_waits_any_more(line: Begins, batcher: Batcher[Item]) -> None:
    one, two = batcher.put(Item(1)), batcher.put(Item(2))
    one.cancel()
    line.reply(fail=True)
    await turn()
    assert (line.sent, line.begun) == ([], [[1], [2]])
    line.reply()
    assert await two == 20


async def test_a_cancelled_caller_leaves_the_answer_to_nobody(line: Begins, batcher: Batcher[Item]) -> None:
    one, two, three = (batcher.put(Item(name)) for name in (1, 2, 3))
    one.cancel()
    two.cancel()
    line.reply()
    await turn()
    assert line.begun == [[1], [3]]
    line.reply()
    assert await three == 30


async def test_what_can_not_be_begun_is_sent(line: Begins, batcher: Batcher[Item]) -> None:
    line.takes = False
    assert await asyncio.gather(*(batcher.put(Item(name)) for name in range(3))) == [0, 10, 20]
    assert line.sent == [[0], [1, 2]]


async def test_what_fails_while_it_is_begun_is_sent(line: Begins) -> None:
    def begin(items: list[Item], answered: Callable[[Sequence[Any] | None], None]) -> bool:
        line.begin(items, answered)
        line.reply(fail=True)
        return True

    batcher = Batcher[Item](line.send, begin=begin)
    assert await batcher.put(Item(1)) == 10
    assert (line.begun, line.sent) == ([[1]], [[1]])
    await batcher.aclose()


async def test_closing_waits_for_what_was_begun(line: Begins, batcher: Batcher[Item]) -> None:
    await batcher.aclose()
    future = batcher.put(Item(1))
    closing = [asyncio.create_task(batcher.aclose()) for _ in range(2)]
    await turn()
    closing[0].cancel()
    await turn()
    assert not closing[1].done()
    line.reply()
    await closing[1]
    assert future.result() == 10
