"""Records that travel as references: what is written, what arrives, who locates it and how errors are told apart."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, cast
from uuid import UUID

import orjson
import pytest
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from aiojobs_rt import (
    ConfigurationError,
    DeserializationError,
    Discard,
    InvalidArguments,
    InvalidJob,
    Job,
    RecordNotFound,
    TestAdapter,
    before_enqueue,
    discard_on,
    register_reference,
    rescue_from,
    retry_on,
)
from aiojobs_rt.core import locating, references
from aiojobs_rt.core.equality import same
from aiojobs_rt.core.outcome import SUCCEEDED, Dead, Discarded, Retried, Succeeded
from aiojobs_rt.enqueue import deliver
from aiojobs_rt.settings import settings
from aiojobs_rt.testing import recording_jobs
from tests.support.recording import outcome_of, record_of

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.acceptance(31)

GOT: list[Any] = []


class User:
    def __init__(self, id: int, name: str = "") -> None:  # noqa: A002 - records have ids
        self.id = id
        self.name = name


class Admin(User): ...


class Group(BaseModel):
    code: str
    members: list[str] = []


class Users:
    """A table whose look-ups are counted."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.at_once = 0
        self.most_at_once = 0
        self.error: BaseException | None = None

    async def find(self, id: Any) -> User | None:  # noqa: A002 - untyped: the id as identify gave it
        self.calls.append(id)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        if self.error is not None:
            raise self.error
        return None if id == 404 else User(id, f"user {id}")

    async def find_many(self, ids: list[Any]) -> dict[Any, User]:
        self.calls.append(ids)
        return {id_: User(id_, f"user {id_}") for id_ in ids if id_ != 404}


@pytest.fixture(autouse=True)
def _own_references() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    before = dict(references._by_name), dict(references._by_class)
    references._by_name.clear()
    references._by_class.clear()
    GOT.clear()
    yield
    references._by_name.clear()
    references._by_class.clear()
    references._by_name.update(before[0])
    references._by_class.update(before[1])


@pytest.fixture
def users() -> Users:
    table = Users()
    register_reference(User, identify=lambda user: user.id, locate=table.find)
    return table


@pytest.fixture
def groups() -> Users:
    table = Users()

    def find(code: str) -> Group:
        table.calls.append(code)
        return {"a/b": Group(code="a/b", members=["ada"]), "7": Group(code="7")}[code]

    register_reference(Group, identify=lambda group: group.code, locate=find)
    return table


def shown(value: Any) -> Any:
    """A value with its records as text, so that it can be compared."""
    if isinstance(value, User):
        return f"{type(value).__name__} {value.id!r}"
    if isinstance(value, dict):
        return {shown(key): shown(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return type(value)(shown(item) for item in value)
    return value


# -- on the wire and back ------------------------------------------------------------------------


async def test_a_record_travels_as_its_reference_and_arrives_as_a_fresh_object(users: Users) -> None:
    class Greet(Job):
        async def perform(self, user: User, greeting: str = "hello") -> None:
            GOT.append((user, greeting))

    sent = User(42, "stale")
    raw = Greet.bind(sent, greeting="gid://app/User/7").args

    assert orjson.loads(raw) == {"user": "gid://app/User/42", "greeting": "gid://app/User/7"}
    assert await outcome_of(Greet, raw) is SUCCEEDED
    ((user, greeting),) = GOT
    assert (user.id, user.name, greeting) == (42, "user 42", "gid://app/User/7")
    assert user is not sent
    assert users.calls == [42], "a text that looks like a reference is none"


class Note(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    author: User
    readers: list[User] = []


@dataclass(frozen=True)
class Letter:
    __pydantic_config__ = ConfigDict(arbitrary_types_allowed=True)
    to: User


ANYWHERE: list[tuple[Any, Any]] = [
    (list[User], [User(1), User(2)]),
    (tuple[User, ...], (User(1), User(2))),
    (tuple[int, User], (1, User(2))),
    (dict[str, User], {"a": User(1)}),
    (dict[User, int], {User(1): 5}),
    (User | None, None),
    (User | None, User(1)),
    (User | int, 3),
    (User | int, User(3)),
    (User | UUID, User(3)),
    (list[User | None], [None, User(1)]),
    (Annotated[list[User], "note"], [User(1)]),
    (Annotated[User, AfterValidator(lambda user: user if user.id else None)], User(3)),
]


@pytest.mark.parametrize(("annotation", "value"), ANYWHERE, ids=range(len(ANYWHERE)))
async def test_references_stand_anywhere_in_an_annotation(users: Users, annotation: Any, value: Any) -> None:
    class Takes(Job):
        async def perform(self, given: Any) -> None:
            GOT.append(given)

        perform.__annotations__["given"] = annotation

    bound = Takes.signature().bind((value,), {})
    raw = Takes.signature().dump(bound)
    Takes.signature().check_round_trip(bound, raw)

    assert await outcome_of(Takes, raw) is SUCCEEDED
    (got,) = GOT
    assert shown(got) == shown(value)


async def test_references_stand_in_sets_and_in_fields_of_models_and_dataclasses(users: Users) -> None:
    class Sends(Job):
        async def perform(self, note: Note, letter: Letter, *others: User, all: frozenset[User], **by: User) -> None:  # noqa: A002
            GOT.append((note, letter, others, all, by))

    raw = Sends.bind(
        Note(author=User(1), readers=[User(2), User(1)]),
        Letter(User(3)),
        User(4),
        all=frozenset({User(5)}),
        boss=User(6),
    ).args

    assert await outcome_of(Sends, raw) is SUCCEEDED
    note, letter, others, everybody, by = GOT[0]
    assert [user.name for user in (note.author, *note.readers)] == ["user 1", "user 2", "user 1"]
    assert note.author is note.readers[1], "one job, one object for each record"
    assert [letter.to.name, others[0].name, by["boss"].name] == ["user 3", "user 4", "user 6"]
    assert [user.name for user in everybody] == ["user 5"]
    assert sorted(users.calls) == [1, 2, 3, 4, 5, 6]


async def test_a_pydantic_model_travels_by_reference_too_even_within_another(groups: Users) -> None:
    class Invitation(BaseModel):
        group: Group

    class Invites(Job):
        async def perform(self, group: Group, invitation: Invitation) -> None:
            GOT.append((group, invitation))

    raw = Invites.bind(Group(code="a/b"), Invitation(group=Group(code="7"))).args

    assert orjson.loads(raw) == {"group": "gid://app/Group/a/b", "invitation": {"group": "gid://app/Group/7"}}
    assert await outcome_of(Invites, raw) is SUCCEEDED
    group, invitation = GOT[0]
    assert (group.members, invitation.group.code) == (["ada"], "7")


@pytest.mark.parametrize("id_", [0, -5, 10**30, "42", "-1", "é/%?#", " ", "gid://app/User/1", "\n"], ids=ascii)
async def test_an_id_arrives_as_it_was_given(id_: Any) -> None:
    seen: list[Any] = []

    def find(id):  # type: ignore[no-untyped-def] # noqa: A002 - undeclared: the id as it was given
        seen.append(id)
        return User(id)

    register_reference(User, identify=lambda user: user.id, locate=find)

    class Takes(Job):
        async def perform(self, user: User) -> None: ...

    raw = Takes.bind(User(id_)).args

    assert raw.isascii()
    assert await outcome_of(Takes, raw) is SUCCEEDED
    assert seen == [id_]
    assert type(seen[0]) is type(id_)


async def test_a_declared_type_of_the_id_is_what_locate_gets() -> None:
    seen: list[Any] = []

    def find(id: str) -> User:  # noqa: A002
        seen.append(id)
        return User(int(id))

    register_reference(User, identify=lambda user: str(user.id), locate=find)

    class Takes(Job):
        async def perform(self, user: User) -> None: ...

    raw = Takes.bind(User(42)).args

    assert raw == b'{"user":"gid://app/User/42"}'
    assert await outcome_of(Takes, raw) is SUCCEEDED
    assert seen == ["42"]


@pytest.mark.parametrize(
    ("id_", "said"),
    [
        (None, "the User has no id; save it first"),
        ("", "the User has no id; save it first"),
        (True, "an id of type bool, not int or str"),
        (1.5, "an id of type float"),
        (10**40, "no int of at most 39 digits"),
        ("\ud800", "lone surrogate"),
    ],
)
def test_a_record_without_a_usable_id_is_refused_at_the_caller(users: Users, id_: Any, said: str) -> None:
    class Takes(Job):
        async def perform(self, user: User) -> None: ...

    with pytest.raises(InvalidArguments, match=said) as caught:
        Takes.bind(User(id_))
    assert "argument 'user'" in str(caught.value)
    assert "Error calling" not in str(caught.value)


@pytest.mark.parametrize("given", ["gid://app/User/1", 1, None, Group(code="a")])
def test_callers_give_records_not_their_references(users: Users, given: Any) -> None:
    class Takes(Job):
        async def perform(self, user: User) -> None: ...

    with pytest.raises(InvalidArguments, match="Input should be a User"):
        Takes.bind(given)


async def test_subclasses_travel_under_their_own_name_if_they_have_one(users: Users) -> None:
    class Takes(Job):
        async def perform(self, user: User) -> None:
            GOT.append(user)

    assert Takes.bind(Admin(1)).args == b'{"user":"gid://app/User/1"}'
    register_reference(Admin, identify=lambda admin: admin.id, locate=Admin, name="Root")
    raw = Takes.bind(Admin(1)).args
    assert raw == b'{"user":"gid://app/Root/1"}'
    assert await outcome_of(Takes, raw) is SUCCEEDED
    assert type(GOT[0]) is Admin


async def test_what_is_located_has_to_be_what_the_annotation_says(users: Users, groups: Users) -> None:
    class Takes(Job):
        async def perform(self, admin: Admin) -> None: ...

    for raw, said in [
        (b'{"admin":"gid://app/User/1"}', "Input should be a reference to a Admin, not to a User"),
        (b'{"admin":"gid://app/Group/7"}', "Input should be a reference to a Admin, not to a Group"),
        (b'{"admin":"42"}', "Input should be a reference, gid://app/Name/id"),
        (b'{"admin":{"id":1}}', "Input should be a Admin"),
    ]:
        outcome = await outcome_of(Takes, raw)
        assert isinstance(outcome, Dead)
        assert record_of(outcome)["error"] == "InvalidArguments"
        assert said in record_of(outcome)["message"]


# -- names ---------------------------------------------------------------------------------------


async def test_a_name_that_is_not_registered_is_never_imported(users: Users) -> None:
    class Takes(Job):
        async def perform(self, user: User) -> None: ...

    for name in ("os", "subprocess.Popen", "builtins:exec"):
        outcome = await outcome_of(Takes, orjson.dumps({"user": f"gid://app/{name}/1"}))
        assert isinstance(outcome, Retried), "an older worker does not know it yet"
        assert outcome.error is not None
        record = orjson.loads(outcome.error)
        assert record["error"] == "DeserializationError"
        assert f"no class is registered for references named '{name}'" in record["message"]
    assert users.calls == []


async def test_a_reference_of_another_application_is_not_ours(users: Users, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AIOJOBS_RT_APP", "shop")

    class Takes(Job):
        async def perform(self, user: User) -> None: ...

    assert Takes.bind(User(1)).args == b'{"user":"gid://shop/User/1"}'
    with pytest.raises(DeserializationError, match=r"belongs to the application 'app', this one is 'shop'"):
        await Takes.signature().locate(b'{"user":"gid://app/User/1"}')
    assert settings().app == "shop"


def test_two_classes_do_not_share_a_name(users: Users) -> None:
    class Other: ...

    def find(id: int) -> Other | None: ...  # noqa: A002

    with pytest.raises(ConfigurationError, match=r"references named 'User' are those of .*give .* a name of its own"):
        register_reference(Other, identify=id, locate=find, name="User")
    with pytest.raises(ConfigurationError, match="is no name for references"):
        register_reference(Other, identify=id, locate=find, name="a/b")
    with pytest.raises(ConfigurationError, match="needs locate, locate_many, or both"):
        register_reference(User, identify=lambda user: user.id)
    wrong: Any = "User"
    with pytest.raises(
        ConfigurationError, match=r"takes the class itself, such as register_reference\(User, ...\), got 'User'"
    ):
        register_reference(wrong, identify=id, locate=find)
    wrong = "id"
    with pytest.raises(ConfigurationError, match=r"\(User, ...\): identify must be a function, .* got 'id'"):
        register_reference(User, identify=wrong, locate=lambda _: None)


def test_a_class_registered_again_takes_its_own_place(users: Users) -> None:
    register_reference(User, identify=lambda user: user.id, locate=users.find, name="Person")

    assert references.text_of(User(1)) == "gid://app/Person/1"
    assert list(references._by_name) == ["Person"]


def test_a_record_that_is_not_registered_says_how_to() -> None:
    with pytest.raises(InvalidJob, match=r"register_reference\(User, \.\.\.\) before the class is defined"):

        class Takes(Job):  # pyright: ignore[reportUnusedClass]
            async def perform(self, users: list[User]) -> None: ...


async def test_a_class_that_is_registered_after_a_job_was_defined_travels_as_a_reference_from_then_on() -> None:
    """Its import came later: nothing else says so."""

    class Memo(BaseModel):
        group: Group

    @dataclass
    class Page:
        memos: list[Memo]

    class Subgroup(Group): ...

    class TakesGroups(Job):
        async def perform(self, group: Group, sub: Subgroup | None = None, *pages: Page) -> None:
            GOT.append((group, sub, pages))

    class TakesNone(Job):
        async def perform(self, n: int) -> None: ...

    untouched = TakesNone.signature()
    pages = [Page([Memo(group=Group(code="c"))])]
    assert b"gid" not in TakesGroups.bind(Group(code="a"), None, *pages).args
    register_reference(Group, identify=lambda group: group.code, locate=lambda code: Subgroup(code=code))
    raw = TakesGroups.bind(Group(code="a"), Subgroup(code="b"), *pages).args
    assert orjson.loads(raw) == {
        "group": "gid://app/Group/a",
        "sub": "gid://app/Group/b",
        "pages": [{"memos": [{"group": "gid://app/Group/c"}]}],
    }
    assert await outcome_of(TakesGroups, raw) is SUCCEEDED
    ((group, sub, ((page),)),) = GOT
    assert [type(found) for found in (group, sub, page.memos[0].group)] == [Subgroup] * 3
    assert TakesNone.signature() is untouched


def test_where_a_job_that_was_defined_before_can_not_take_references_it_is_said() -> None:
    class Either(Job):
        async def perform(self, group: Group | str) -> None: ...

    def register() -> None:
        register_reference(Group, identify=lambda group: group.code, locate=lambda code: Group(code=str(code)))

    before = Either.bind(Group(code="a")).args
    with pytest.raises(
        ConfigurationError, match=r"takes Group is defined already: Either.*JSON can't tell.*register .*Group before"
    ):
        register()
    assert references.find(Group) is None
    assert Either.bind(Group(code="a")).args == before


def test_records_and_text_can_not_be_told_apart(users: Users) -> None:
    with pytest.raises(InvalidJob, match="JSON can't tell User from str"):

        class Takes(Job):  # pyright: ignore[reportUnusedClass]
            async def perform(self, user: User | str) -> None: ...


# -- locating ------------------------------------------------------------------------------------


async def test_records_of_one_job_are_located_together(groups: Users) -> None:
    users = Users()
    register_reference(User, identify=lambda user: user.id, locate=users.find, locate_many=users.find_many)

    class Takes(Job):
        async def perform(self, users: list[User | Group], one: User | None = None) -> None:
            GOT.append([user.name if isinstance(user, User) else user.code for user in users])

    raw = Takes.bind([User(1), Group(code="7"), User(2), User(1)], one=User(3)).args
    assert await outcome_of(Takes, raw) is SUCCEEDED
    assert GOT == [["user 1", "7", "user 2", "user 1"]]
    assert users.calls == [[1, 2, 3]]

    users.calls.clear()
    assert await outcome_of(Takes, Takes.bind([User(1)]).args) is SUCCEEDED
    assert users.calls == [1], "for a single one, locate"


async def test_without_locate_many_they_are_located_several_at_a_time(users: Users) -> None:
    class Takes(Job):
        async def perform(self, users: list[User]) -> None:
            GOT.append([user.id for user in users])

    assert await outcome_of(Takes, Takes.bind([User(n) for n in range(100)]).args) is SUCCEEDED
    assert [list(range(100))] == GOT
    assert Counter(users.calls) == Counter(range(100))
    assert users.most_at_once == locating.AT_ONCE


@pytest.mark.parametrize("as_many", [False, True])
@pytest.mark.parametrize("answer", ["none", "raise"])
@pytest.mark.acceptance(32)
async def test_a_missing_record_is_dead_at_once_or_discarded(as_many: bool, answer: str) -> None:
    def find(id: int) -> User | None:  # noqa: A002
        if id == 404 and answer == "raise":
            raise LookupError(id)
        return None if id == 404 else User(id)

    def find_many(ids: list[int]) -> list[User | None]:
        return [find(id_) for id_ in ids]

    many: dict[str, Any] = {"locate_many": find_many} if as_many else {"locate": find}
    register_reference(User, identify=lambda user: user.id, **many)

    class Takes(Job):
        async def perform(self, users: list[User]) -> None:
            GOT.append("ran")

    @discard_on(RecordNotFound)
    class Discards(Takes): ...

    raw = Takes.bind([User(1), User(404)]).args
    outcome = await outcome_of(Takes, raw)
    assert isinstance(outcome, Dead)
    assert record_of(outcome)["error"] == "RecordNotFound"
    assert isinstance(await outcome_of(Discards, raw), Discarded)
    assert GOT == []


@pytest.mark.acceptance(32)
async def test_an_error_while_locating_is_retried_and_matched_by_policies(users: Users) -> None:
    class Takes(Job):
        keep_result = 60

        async def perform(self, user: User) -> str:
            return user.name

    @discard_on(RecordNotFound)
    @retry_on(DeserializationError, wait=7, jitter=0)
    class Retries(Takes): ...

    class Rescues(Takes):
        @rescue_from(DeserializationError)
        def instead(self, error: DeserializationError) -> str:
            return f"{type(self).__name__} {type(error.__cause__).__name__}"

    users.error = ConnectionError("database is away")
    raw = Takes.bind(User(1)).args
    outcome = await outcome_of(Takes, raw)
    assert isinstance(outcome, Retried)
    assert orjson.loads(outcome.error)["error"] == "DeserializationError"
    assert "locating User failed: ConnectionError: database is away" in orjson.loads(outcome.error)["message"]
    outcome = await outcome_of(Retries, raw)
    assert isinstance(outcome, Retried)
    assert outcome.delay_ms == 7000
    assert await outcome_of(Rescues, raw) == Succeeded(b'"Rescues ConnectionError"', 60_000)
    users.error = Discard("enough")
    assert isinstance(await outcome_of(Takes, raw), Discarded)


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError(), KeyboardInterrupt()], ids=repr)
async def test_whatever_locating_raises_is_the_jobs_failure(users: Users, error: BaseException) -> None:
    """Also in the tasks that locate several at a time: it does not go through the event loop."""
    users.error = error

    class Takes(Job):
        async def perform(self, users: list[User]) -> None: ...

    assert isinstance(await outcome_of(Takes, Takes.bind([User(1), User(2), User(3)]).args), Retried)


async def test_cancelling_a_job_cancels_its_locating() -> None:
    started, cancelled = asyncio.Event(), Counter[int]()

    async def find(id: int) -> User:  # noqa: A002
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled[id] += 1
            raise
        return User(id)

    register_reference(User, identify=lambda user: user.id, locate=find)

    class Takes(Job):
        async def perform(self, users: list[User]) -> None: ...

    task = asyncio.create_task(Takes.perform_now([User(1), User(2)]))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancelled == {1: 1, 2: 1}


@pytest.mark.parametrize("answer", [[User(1)], 3, None])
async def test_a_wrong_answer_of_locate_many_is_said(answer: Any) -> None:
    register_reference(User, identify=lambda user: user.id, locate_many=lambda _: answer)

    class Takes(Job):
        async def perform(self, users: list[User]) -> None: ...

    with pytest.raises(DeserializationError, match="locate_many of User must return a mapping by id, or a sequence"):
        await Takes.signature().locate(b'{"users":["gid://app/User/1","gid://app/User/2"]}')


async def test_perform_now_locates_and_applies_policies(users: Users) -> None:
    @discard_on(RecordNotFound)
    class Takes(Job):
        async def perform(self, user: User) -> str:
            return user.name

    assert await Takes.perform_now(User(5, "stale")) == "user 5"
    assert await Takes.perform_now(User(404)) is None
    users.error = OSError("away")
    with pytest.raises(DeserializationError):
        await Takes.perform_now(User(5))


async def test_enqueue_callbacks_and_choices_see_the_record_that_was_given(users: Users) -> None:
    carried = TestAdapter()

    class Welcomes(Job):
        adapter = carried

        @before_enqueue
        def look(self) -> None:
            GOT.append([user.name for user in (self.arguments["user"], *self.arguments.get("others", ()))])

        async def perform(self, user: User, *others: User) -> None:
            raise ValueError("for now")

    class Chooses(Welcomes):
        def choose_queue(self) -> str:
            name: str = self.arguments["user"].name
            return name

    await Welcomes.perform_later(User(1, "ada"), User(2, "bob"))
    await deliver(Chooses.bind(User(3, "cy")))
    assert GOT == [["ada", "bob"], ["cy"]]
    assert [(job.queue, job.arguments["user"]) for job in carried.enqueued] == [
        ("default", "gid://app/User/1"),
        ("cy", "gid://app/User/3"),
    ]
    GOT.clear()
    await carried.perform_enqueued()
    assert ["user 1", "user 2"] in GOT, "of a retry: those that were located"


@pytest.mark.acceptance(59)
async def test_a_plain_call_takes_the_record_as_it_is(users: Users) -> None:
    class Takes(Job):
        async def perform(self, user: User) -> None:
            GOT.append(user)

    sent = User(1)
    await Takes().perform(sent)
    assert [sent] == GOT
    assert users.calls == []


async def test_validators_see_records_and_never_references(users: Users) -> None:
    seen: list[Any] = []

    def check(user: User) -> User:
        seen.append(user.name)
        return user

    class Takes(Job):
        async def perform(
            self, users: Annotated[list[Annotated[User, AfterValidator(check)]], BeforeValidator(list)]
        ) -> None: ...

    raw = Takes.bind([User(1, "stale"), User(2, "stale")]).args
    seen.clear()
    assert await outcome_of(Takes, raw) is SUCCEEDED
    assert seen == ["user 1", "user 2"]


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (User(1, "as sent"), User(1, "changed since"), True),
        (User(1), User(2), False),
        (User(1), User(cast("int", "1")), False),
        (User(1), Admin(1), True),  # one row, though it was loaded as another class
        (User(7), Group(code="7"), False),
        ([User(1), {"by": User(2)}], [User(1, "x"), {"by": User(2, "x")}], True),
        ([User(1)], [User(1), User(1)], False),
        ({User(1): 1, User(2): 2}, {User(2, "x"): 2, User(1, "x"): 1}, True),
        ({User(1): 1, User(2): 2}, {User(2): 1, User(1): 2}, False),
        ({User(1), User(2)}, {User(2, "x"), User(1, "x")}, True),
        (User(1), "gid://app/User/1", False),
    ],
)
def test_records_are_the_same_when_their_ids_are(
    users: Users, groups: Users, one: Any, other: Any, equal: bool
) -> None:
    """However differently they were loaded: that is what the round trip of test adapters and `assert_enqueued` compare."""
    assert same(one, other) is equal
    assert same(other, one) is equal


async def test_what_was_enqueued_is_found_by_a_record_of_the_same_id(users: Users) -> None:
    class TakesOne(Job):
        async def perform(self, user: User) -> None: ...

    with recording_jobs() as jobs:
        await TakesOne.perform_later(User(1, "as sent"))
        jobs.assert_enqueued(TakesOne, args=(User(1, "another object"),))
        with pytest.raises(AssertionError, match="gid://app/User/1"):
            jobs.assert_enqueued(TakesOne, args=(User(2),))


# -- without references --------------------------------------------------------------------------


def test_a_job_without_references_is_loaded_as_before(users: Users) -> None:
    class Plain(Job):
        async def perform(self, n: int) -> None: ...

    class Refers(Job):
        async def perform(self, user: User) -> None: ...

    assert (Plain.signature().plain, Plain.signature().refers) == (True, False)
    assert (Refers.signature().plain, Refers.signature().refers) == (False, True)


def test_the_command_line_passes_references_on(users: Users) -> None:
    """`load` without locating, as `aiojobs_rt enqueue` does."""

    class Takes(Job):
        async def perform(self, users: list[User]) -> None: ...

    raw = b'{"users":["gid://app/User/1","gid://app/User/2"]}'
    args, kwargs = Takes.signature().load(raw)

    assert Takes.bind(*args, **kwargs).args == raw
    assert users.calls == []
