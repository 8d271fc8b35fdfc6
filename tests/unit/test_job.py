from __future__ import annotations

import re
import subprocess
import sys
from abc import ABC, abstractmethod
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Generic, TypeVar

import pytest
from pydantic import BaseModel

from aiojobs_rt import DefinitionError, InvalidArguments, InvalidJob, Job, JobHandle, discard_on, retry_on
from aiojobs_rt.core import registry
from aiojobs_rt.core.misspelt import OPTIONS
from aiojobs_rt.core.outcome import Retried, Succeeded
from tests.support.recording import RecordingAdapter, as_message, message_of, run

T = TypeVar("T")
U = TypeVar("U")


class Row(BaseModel):
    id: int


class UsesLater(Job):
    async def perform(self, row: DefinedLater) -> DefinedLater:
        return row


class UsesNever(Job):
    async def perform(self, row: Row) -> None: ...

    perform.__annotations__["row"] = "DefinedNever"


# -- options and inheritance ---------------------------------------------------------------------


@pytest.mark.acceptance(14, 57)
def test_options_are_inherited_and_overridden() -> None:
    class Application(Job):
        queue = "app"
        priority = 3
        timeout = timedelta(minutes=1)
        max_attempts = 7
        retry_for = 3600
        keep_result = 60
        expires_in = 1.5

    class Inherits(Application):
        async def perform(self) -> None: ...

    class Overrides(Application):
        queue = "own"
        max_attempts = 1

        async def perform(self) -> None: ...

    class Further(Overrides):
        priority = -3

    options = Inherits.options()
    assert (options.queue, options.priority, options.max_attempts) == ("app", 3, 7)
    assert (options.timeout_ms, options.retry_for_ms, options.keep_ms, options.expires_ms) == (
        60_000,
        3_600_000,
        60_000,
        1_500,
    )
    assert (Overrides.options().queue, Overrides.options().max_attempts) == ("own", 1)
    assert Overrides.options().priority == 3
    assert (Further.options().queue, Further.options().priority) == ("own", -3)
    assert Application.options().queue == "app"
    assert Job.options().queue == "default"


@pytest.mark.acceptance(14)
async def test_declarations_are_searched_from_the_bottom_up_and_then_up_the_mro() -> None:
    carried = RecordingAdapter()

    @retry_on(ValueError, wait=1)
    @retry_on(KeyError, wait=2)
    class Application(Job):
        adapter = carried

    @retry_on(LookupError, wait=4)
    @retry_on(IndexError, wait=3)
    class Fails(Application):
        async def perform(self, kind: str) -> None:
            raise {"key": KeyError, "index": IndexError, "value": ValueError}[kind]

    async def delay(kind: str) -> int:
        await Fails.perform_later(kind)
        outcome = await run(as_message(carried.envelopes[-1]))
        assert isinstance(outcome, Retried)
        return outcome.delay_ms // 1000

    assert await delay("index") == 3
    assert await delay("key") == 4  # the nearest above, though the base names it exactly
    assert await delay("value") == 1


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("queue", "with space", "not a queue name"),
        ("queue", "", "not a queue name"),
        ("queue", 5, "not a queue name"),
        ("queue", "q" * 65, "not a queue name"),
        ("priority", "high", "priority must be an int, got 'high'"),
        ("priority", True, "priority must be an int, got True"),
        ("priority", 1_000_001, "priority must be between"),
        ("timeout", -1, "timeout must be finite and more than 0, got -1"),
        ("timeout", 0, "timeout must be finite and more than 0, got 0"),
        ("timeout", "30", "timeout must be seconds or a timedelta, got '30'"),
        ("max_attempts", 0, "max_attempts must be at least 1, got 0"),
        ("max_attempts", "unlimited", "max_attempts must be an int"),
        ("retry_for", float("nan"), "retry_for must be finite"),
        ("keep_result", timedelta(seconds=-1), "keep_result must be finite"),
        ("expires_in", float("inf"), "expires_in must be finite"),
        ("name", "", "name must be 1 to 200 printable characters"),
        ("name", "a\nb", "name must be 1 to 200 printable characters"),
        ("name", 5, "name must be 1 to 200 printable characters"),
        ("name", "n" * 201, "name must be 1 to 200 printable characters"),
    ],
)
def test_a_wrong_option_is_refused_where_the_class_is_defined(attribute: str, value: object, message: str) -> None:
    with pytest.raises(InvalidJob, match=message) as raised:
        type("WrongOption", (Job,), {attribute: value})
    assert "WrongOption" in str(raised.value)
    assert registry.resolve("WrongOption") is None


def test_a_name_is_the_class_name_or_its_own_and_is_not_inherited() -> None:
    class Plain(Job):
        async def perform(self) -> None: ...

    class Named(Job):
        name = "mail.welcome"

        async def perform(self) -> None: ...

    class Derived(Named): ...

    assert (Plain.name, Named.name, Derived.name) == ("Plain", "mail.welcome", "Derived")
    assert registry.resolve("mail.welcome") is Named
    assert registry.resolve("Derived") is Derived
    assert registry.resolve("Named") is None


# -- perform -------------------------------------------------------------------------------------


@pytest.mark.acceptance(15, 56)
async def test_a_class_without_perform_is_abstract_and_enqueueing_it_names_it() -> None:
    class Application(Job): ...

    assert Application.is_abstract()
    assert registry.resolve("Application") is None
    for enqueue in (Application.perform_later, Application.perform_now, Application.set(wait=1).perform_later):
        with pytest.raises(InvalidJob, match=r"Application is abstract: it has no `async def perform"):
            await enqueue(1)
    with pytest.raises(InvalidJob, match="Application is abstract"):
        Application.bind()
    with pytest.raises(InvalidJob, match="Application is abstract"):
        Application.handle("default.abc")
    with pytest.raises(NotImplementedError, match="Application has no perform"):
        await Application().perform()
    with pytest.raises(InvalidJob, match="Job is abstract"):
        await Job.perform_later()


@pytest.mark.acceptance(56)
async def test_a_class_that_leaves_a_method_to_others_is_abstract() -> None:
    class Source(Job, ABC):
        @property
        @abstractmethod
        def path(self) -> str: ...

        @abstractmethod
        async def rows(self) -> list[int]: ...

        async def perform(self) -> int:
            return sum(await self.rows()) + len(self.path)

    class Half(Source):
        path = "half"  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType] - as abstract properties are filled

    class Whole(Half):
        async def rows(self) -> list[int]:
            return [1, 2]

    assert [each.is_abstract() for each in (Source, Half, Whole)] == [True, True, False]
    assert [registry.resolve(name) for name in ("Source", "Half", "Whole")] == [None, None, Whole]
    with pytest.raises(InvalidJob, match="Source is abstract: it does not define path, rows; enqueue a class that"):
        await Source.perform_later()
    with pytest.raises(InvalidJob, match="Half is abstract: it does not define rows;"):
        Half.bind()
    assert await Whole.perform_now() == 7


class Performs:
    async def perform(self) -> int:
        return 1


async def test_a_mixin_with_perform_stands_before_job() -> None:
    class Mixed(Performs, Job): ...

    class MixedTooLate(Job, Performs): ...

    assert await Mixed.perform_now() == 1
    with pytest.raises(InvalidJob, match="its perform is Job's own; put Performs before Job among its bases"):
        MixedTooLate.bind()


def test_a_class_with_an_abstract_perform_is_abstract() -> None:
    class Template(Job, ABC):
        @abstractmethod
        async def perform(self, row: Row) -> None: ...

    class Filled(Template):
        async def perform(self, row: Row) -> None: ...

    assert Template.is_abstract()
    assert registry.resolve("Template") is None
    assert registry.resolve("Filled") is Filled
    with pytest.raises(InvalidJob, match="Template is abstract"):
        Template.bind(Row(id=1))


@pytest.mark.acceptance(56)
def test_a_sync_perform_is_refused_where_it_is_defined() -> None:
    with pytest.raises(InvalidJob, match=r"Sync\.perform must be `async def perform.*anyio\.to_thread"):

        class Sync(Job):  # pyright: ignore[reportUnusedClass]
            def perform(self) -> None:  # type: ignore[override] # pyright: ignore[reportIncompatibleMethodOverride]
                ...

    assert registry.resolve("Sync") is None


def test_an_async_generator_is_no_perform() -> None:
    with pytest.raises(InvalidJob, match=r"Yields\.perform must return, not yield"):
        exec("class Yields(Job):\n async def perform(self):\n  yield 1", {"Job": Job, "__name__": __name__})  # noqa: S102


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("@staticmethod\n async def perform(a: int): ...", r"Odd\.perform must be a plain method"),
        ("@classmethod\n async def perform(cls, a: int): ...", r"Odd\.perform must be a plain method"),
        ("async def perform(): ...", r"Odd\.perform takes no self"),
        ("async def perform(order_id: int): ...", r"Odd\.perform takes no self"),
        ("adapter = 'redis://:hunter2@h'", r"Odd\.adapter must be an adapter, such as RedisAdapter\(URL\), got a str$"),
        ("async def lifespan(self): yield", r"Odd\.lifespan is called without an instance: write @staticmethod above"),
        ("@cm\n async def lifespan(): yield", r"Odd\.lifespan is called without an instance"),
        ("@cm\n @staticmethod\n async def lifespan(): yield", r"Odd\.lifespan is called without an instance"),
        (
            "@staticmethod\n async def lifespan(): yield",
            r"Odd\.lifespan must be a context manager: write @asynccontext",
        ),
        ("@staticmethod\n async def lifespan(): ...", r"Odd\.lifespan must be a context manager"),
        (
            "def __init__(self, mailer): ...\n async def perform(self): ...",
            r"Odd\.__init__ must need nothing but self: .* `lifespan`, as self\.state",
        ),
    ],
)
def test_a_method_of_the_wrong_kind_is_refused_where_it_is_defined(method: str, message: str) -> None:
    names = {"Job": Job, "cm": asynccontextmanager, "__name__": __name__}
    with pytest.raises(InvalidJob, match=message):
        exec(f"class Odd(Job):\n {method}", names)  # noqa: S102 - type checkers refuse most of these


def test_a_parameter_without_annotation_is_refused_naming_it() -> None:
    with pytest.raises(InvalidJob, match=r"Bare\.perform.*'user_id' has no annotation.*user_id: int"):
        exec("class Bare(Job):\n async def perform(self, user_id): ...", {"Job": Job, "__name__": __name__})  # noqa: S102


def test_a_parameter_that_cannot_travel_is_refused_naming_it() -> None:
    with pytest.raises(InvalidJob, match=r"Odd\.perform.*'what'"):

        class Odd(Job):  # pyright: ignore[reportUnusedClass]
            async def perform(self, what: object) -> None: ...

    assert issubclass(InvalidJob, DefinitionError)
    assert issubclass(DefinitionError, TypeError)


@pytest.mark.acceptance(15)
async def test_perform_gets_what_was_given_by_position_by_keyword_and_beyond() -> None:
    carried = RecordingAdapter()

    class Takes(Job):
        adapter = carried
        keep_result = 60

        async def perform(self, first: int, /, second: str = "2", *rest: float, key: bool, **more: Row) -> list[str]:
            return [repr(first), second, repr(rest), repr(key), repr(more)]

    await Takes.perform_later(1, "b", 1.5, 2, key=True, row=Row(id=3), first=Row(id=4))
    outcome = await run(as_message(carried.envelopes[0]))
    assert isinstance(outcome, Succeeded)
    assert outcome.result is not None
    assert Takes.result().load(outcome.result) == [
        "1",
        "b",
        "(1.5, 2.0)",
        "True",
        "{'row': Row(id=3), 'first': Row(id=4)}",
    ]


# -- names that are defined later, local classes, generics ---------------------------------------


class DefinedLater(BaseModel):
    id: int


async def test_a_forward_reference_is_resolved_at_first_use() -> None:
    assert await UsesLater.perform_now(DefinedLater(id=1)) == DefinedLater(id=1)


def test_a_name_that_nobody_defines_is_reported_at_first_use() -> None:
    with pytest.raises(InvalidJob, match=r"UsesNever\.perform.*'DefinedNever' is not defined.*import or define"):
        UsesNever.bind(Row(id=1))


async def test_annotations_may_name_what_is_local_to_the_defining_function() -> None:
    class Local(BaseModel):
        id: int

    class TakesLocal(Job):
        async def perform(self, local: Local) -> Local:
            return local

    class InheritsByAbc(Job, ABC):
        async def perform(self, local: Local) -> None: ...

    assert await TakesLocal.perform_now(Local(id=1)) == Local(id=1)
    assert InheritsByAbc.bind(Local(id=1)).args == b'{"local":{"id":1}}'


async def test_a_generic_class_is_abstract_until_its_parameters_are_given() -> None:
    class Export(Job, Generic[T]):
        async def perform(self, rows: list[T], first: T | None = None) -> list[T]:
            return [*rows, first] if first is not None else rows

    class ExportRows(Export[Row]): ...

    class ExportNumbers(Export[int]): ...

    assert Export.is_abstract()
    assert registry.resolve("Export") is None
    with pytest.raises(InvalidJob, match=r"Export is abstract: its type parameters are open"):
        Export.bind([])
    assert await ExportRows.perform_now([Row(id=1)], first=Row(id=2)) == [Row(id=1), Row(id=2)]
    assert await ExportNumbers.perform_now([1], 2) == [1, 2]
    with pytest.raises(InvalidArguments):
        ExportNumbers.bind([Row(id=1)])  # type: ignore[list-item] # pyright: ignore[reportArgumentType]


async def test_type_parameters_are_followed_through_several_generations() -> None:
    class Export(Generic[T, U], Job):  # noqa: PYI059 - Generic first: its own __init_subclass__ has not run yet
        async def perform(self, key: T, rows: list[U]) -> dict[T, list[U]]:
            return {key: rows}

    class Keyed(Export[str, list[T]], Generic[T]): ...  # T is another T here

    class Swapped(Keyed[U], Generic[U]): ...

    class Final(Swapped[Row]): ...

    assert Export.is_abstract()
    assert Keyed.is_abstract()
    assert Swapped.is_abstract()
    assert await Final.perform_now("k", [[Row(id=1)]]) == {"k": [[Row(id=1)]]}
    with pytest.raises(InvalidArguments):
        Final.bind("k", [Row(id=1)])  # type: ignore[list-item] # pyright: ignore[reportArgumentType]


def test_a_generic_base_without_its_parameters_is_refused() -> None:
    class Export(Job, Generic[T]):
        async def perform(self, row: T) -> None: ...

    with pytest.raises(InvalidJob, match=r"Forgot\.perform.*'row'.*type variable"):

        class Forgot(Export):  # type: ignore[type-arg] # pyright: ignore[reportMissingTypeArgument]
            ...


def test_decorators_return_the_class_itself() -> None:
    class Plain(Job):
        async def perform(self) -> None: ...

    assert retry_on(ValueError)(discard_on(KeyError)(Plain)) is Plain


def test_methods_of_a_job_have_docstrings_that_help() -> None:
    class Documented(Job):
        async def perform(self, user_id: int) -> None: ...

    for method in (Documented.perform_later, Documented.perform_now, Documented.bind, Documented.handle):
        assert "job" in (method.__doc__ or "").splitlines()[0]
    assert "wait_until" in (type(Documented.set).__call__.__doc__ or "")


def test_the_typing_examples_run() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import tests.typing.right.calls, tests.typing.right.definitions"],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr


# -- a job by hand -------------------------------------------------------------------------------


class ByHand(Job):
    queue = "hand"

    async def perform(self, user_id: int, *, times: int = 1) -> tuple[int, str, int]:
        return user_id * times, self.queue, self.executions


@pytest.mark.acceptance(59)
async def test_perform_is_a_plain_coroutine_call() -> None:
    job = ByHand()
    assert await job.perform(42) == (42, "hand", 1)
    assert await ByHand().perform(42, times=2) == (84, "hand", 1)
    assert job.id.startswith("hand.")
    assert job.id == job.id
    assert abs(job.enqueued_at - datetime.now(tz=UTC)) < timedelta(seconds=30)
    assert job.logger.name == "aiojobs_rt.job.ByHand"


def test_a_handle_is_made_from_an_id_alone() -> None:
    handle: JobHandle[Any] = UsesLater.handle("mailers.6TwR3")
    assert (handle.id, handle.queue) == ("mailers.6TwR3", "mailers")
    with pytest.raises(ValueError, match="'mailers' is not a job id"):
        UsesLater.handle("mailers")


# -- the idempotency key -------------------------------------------------------------------------


class PaysOut(Job):
    keep_result = 60

    async def perform(
        self, account: str, amount: Decimal = Decimal(10), *tags: str, by: datetime | None = None
    ) -> list[str]:
        return [self.idempotency_key(), self.idempotency_key("account"), self.idempotency_key("account", "amount")]


@pytest.mark.acceptance(66)
async def test_an_idempotency_key_is_that_of_the_arguments() -> None:
    async def keys(*args: Any, **kwargs: Any) -> list[str]:
        return await PaysOut.perform_now(*args, **kwargs)

    found = await keys("ada")
    assert await keys("ada") == found
    assert await keys(amount=Decimal(10), account="ada") == found, "a default is what it is"
    assert [key == other for key, other in zip(await keys("ada", Decimal(11)), found, strict=True)] == [
        False,
        True,
        False,
    ]
    assert [key == other for key, other in zip(await keys("ada", Decimal(10), "x"), found, strict=True)] == [
        False,
        True,
        True,
    ]
    assert not set(await keys("bob")) & set(found)
    assert all(re.fullmatch("[0-9a-f]{32}", key) for key in found)

    class PaysOutToo(PaysOut): ...

    assert not set(await PaysOutToo.perform_now("ada")) & set(found)
    again = await run(replace(message_of(PaysOut, b'{"account":"ada"}'), failures=2))
    assert isinstance(again, Succeeded)
    assert again.result is not None
    assert PaysOut.result().load(again.result) == found
    with pytest.raises(
        ValueError, match=r"PaysOut\.perform\(\) has no parameter 'acount'; it has account, amount, tags, by"
    ):
        PaysOut().idempotency_key("acount")
    assert PaysOut().idempotency_key() == PaysOut().idempotency_key()  # called directly: of the defaults


def test_what_init_takes_beside_self_has_defaults() -> None:
    class TakesMailer(Job):
        def __init__(self, mailer: str = "smtp") -> None:
            self.mailer = mailer

        async def perform(self) -> None: ...

    assert TakesMailer("fake").mailer == "fake"


def test_an_option_for_one_job_that_does_not_exist_is_refused_in_the_name_of_set() -> None:
    with pytest.raises(TypeError, match=r"^Job\.set\(\) got an unexpected keyword argument 'que'"):
        Job.set(que="low")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue] - what is tested


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("max_attempt", 1, "max_attempts"),
        ("retries", 3, "max_attempts"),
        ("queue_name", "low", "queue"),
        ("time_out", 3.0, "timeout"),
    ],
)
def test_an_attribute_that_looks_like_a_misspelt_option_is_warned_of(name: str, value: object, meant: str) -> None:
    with pytest.warns(
        UserWarning, match=rf"Misspells\.{name} is no option and changes nothing; did you mean {meant}\?"
    ):
        type("Misspells", (Job,), {name: value})


def test_attributes_of_ones_own_are_not_warned_of() -> None:
    type(
        "HasItsOwn", (Job,), {"names": ("ada",), "queues": ["a"], "_retries": 3, "template": "welcome", "adapters": {}}
    )


def test_all_options_are_known_to_the_search_for_misspelt_ones() -> None:
    assert set(OPTIONS) == set(Job.__annotations__) - {"name", "state"} - {
        n for n in Job.__annotations__ if n.startswith("_")
    }
