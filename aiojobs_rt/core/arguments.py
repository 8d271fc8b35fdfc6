"""The arguments of a job on their way from `perform_later` to `perform`.

One description of perform's signature is compiled when the class is defined, and does all that is done per job:

1. `bind` takes positional and keyword arguments as a call would, and validates them;
2. `dump` writes them as one JSON object by parameter name (`encode` is both steps);
3. `load` reads that object, validates it once, and gives back the arguments of the call.

Only what was given travels: defaults apply at the call. What validation coerced is what travels. Validators run on both
sides, so a validator has to accept what it returned. `locate` is `load` for jobs that take records by reference.
"""

from __future__ import annotations

import inspect
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast, get_origin

from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticSerializationError, SchemaError, ValidationError
from typing_extensions import TypedDict, Unpack

from aiojobs_rt.core import explanation, locating, references, secret_values, wire
from aiojobs_rt.core.annotations import Unresolved, describe, referring, refusal, resolve, schema_of
from aiojobs_rt.core.bounds import MAX_DEPTH, deeper, holding_many, items_in, long_number
from aiojobs_rt.core.equality import same
from aiojobs_rt.core.explanation import details
from aiojobs_rt.core.signature import Signature
from aiojobs_rt.errors import DeserializationError, InvalidArguments, InvalidJob, PayloadTooLarge

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from aiojobs_rt.core.shapes import Schema

__all__ = ["Arguments", "Unresolved", "explain"]

MAX_SHOWN = 2_000

_NO_SCHEMA = (PydanticUserError, SchemaError, TypeError)
_UNDUMPABLE = (PydanticSerializationError, UnicodeError, RecursionError)


class Arguments:
    """What a job's perform takes, compiled.

    Attributes:
        required: names of the parameters without a default, in order.
        plain: whether `load_plain` may be used: no positional-only parameters, no *args, no **kwargs, no references.
        refers: whether there are references, so that `locate` is to be used.
        secret: names of the parameters that hold a SecretStr or the like, however deep.
        by_value: the classes that travel with all that they hold.
        many: the parameters of which `most_items` is about; empty: nobody need say how many there may be.
        load_plain: JSON bytes to the keyword arguments of perform, in one call of pydantic. Raises pydantic_core's
            ValidationError, which `explain` turns into InvalidArguments.
    """

    __slots__ = (
        "_open_ended",
        "_original",
        "_positional",
        "_schema",
        "_signature",
        "_to_json",
        "_validate",
        "by_value",
        "load_plain",
        "many",
        "plain",
        "refers",
        "required",
        "secret",
    )

    required: tuple[str, ...]
    plain: bool
    refers: bool
    by_value: frozenset[type[Any]]
    many: Mapping[str, int]
    load_plain: Callable[[bytes], dict[str, Any]]
    secret: tuple[str, ...]

    def __init__(self, signature: Signature, schema: Schema) -> None:
        """Use `of`."""
        by_value: set[type[Any]] = set()
        self._original = schema
        schema, self.refers = references.refer(schema, wire.INNER, by_value)
        self.by_value = frozenset(by_value)
        self._signature = signature
        self._schema = schema
        self._positional = signature.positional
        self._open_ended = wire.open_ended(schema)
        self.many = holding_many(schema)
        self._validate = wire.incoming(schema).validate_python
        serialiser, validator = wire.travelling(schema)
        self._to_json = serialiser.to_json
        self.required = signature.required
        self.secret = secret_values.secret_parameters(schema)
        self.plain = signature.plain and not self.refers
        self.load_plain = validator.validate_json

    @classmethod
    def of(
        cls,
        function: Callable[..., Any],
        *,
        job: str,
        skip_first: bool = True,
        local_names: Mapping[str, Any] | None = None,
        type_arguments: Mapping[Any, Any] | None = None,
    ) -> Arguments:
        """Compile the signature of `function`.

        Args:
            function: perform, as a plain function.
            job: the job's name, for messages.
            skip_first: leave out the first positional parameter (self).
            local_names: further names that annotations may use, such as the local variables around the class.
            type_arguments: what the type variables of a generic job class stand for.

        Raises:
            Unresolved: an annotation names something that is not defined yet.
            InvalidJob: a parameter has no annotation, or one whose values would not arrive as they were sent.
        """
        hints = referring(resolve(function, job=job, local_names=local_names, type_arguments=type_arguments))
        parameters = list(inspect.signature(function).parameters.values())
        signature = Signature.of(parameters, call=f"{job}.{function.__name__}()", skip_first=skip_first)
        kept = [parameter for parameter in parameters if parameter.name in signature.names]
        for parameter in kept:
            wrong = _refused(parameter, hints, local_names)
            if wrong is not None:
                raise InvalidJob(f"{signature.call}: parameter {parameter.name!r} {wrong}")
        return cls(signature, _schema(signature, hints, local_names))

    def referring(self) -> Arguments:
        """The same, with references to the classes that have been registered since.

        Raises:
            InvalidJob: JSON can't tell them from what else a union takes.
        """
        made = Arguments(self._signature, self._original)
        if wire.ambiguous(made._schema):
            raise InvalidJob(
                f"{self._signature.call}: in a union, JSON can't tell a reference from text; choose one of them"
            )
        return made

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, most_items: int = 0) -> dict[str, Any]:
        """The validated arguments of a call by parameter name: what was given, without the defaults.

        `*args` stands under its own name as a list, `**kwargs` as a dict.

        Args:
            args: by position.
            kwargs: by name.
            most_items: of one argument, those of lists and dicts in it included, counted before they are validated; 0: any number.

        Raises:
            InvalidArguments: perform can't be called like that, or a value does not fit its annotation.
            PayloadTooLarge: an argument has more items.
        """
        given = self._given(args, kwargs)
        if self.many and most_items:
            self._refuse_many(given, most_items)
        try:
            return cast("dict[str, Any]", self._validate(given))
        except ValidationError as error:
            raise self.explain(error) from None

    def dump(self, bound: dict[str, Any]) -> bytes:
        """What `bind` returned as one JSON object.

        Raises:
            InvalidArguments: a value has no JSON (a lone surrogate, a cycle, a failing serialiser), or none that could be
                read again (nested deeper than MAX_DEPTH, a number of thousands of digits).
        """
        try:
            raw = self._to_json(bound, round_trip=True, warnings=False)
        except _UNDUMPABLE as error:
            raise self._undumpable(bound, error) from None
        if len(raw) > 2 * MAX_DEPTH:
            self._check_readable(raw, bound)
        return raw

    def to_call(self, bound: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What `bind` returned, as the positional and keyword arguments of perform; takes the dict over."""
        return self._signature.to_call(bound)

    def encode(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, most_items: int = 0) -> bytes:
        """`bind` and `dump` in one.

        Raises:
            InvalidArguments, PayloadTooLarge: as they do.
        """
        given = self._given(args, kwargs)
        if self.many and most_items:
            self._refuse_many(given, most_items)
        try:
            bound = self._validate(given)
        except ValidationError as error:
            raise self.explain(error) from None
        return self.dump(bound)

    def load(self, raw: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """JSON bytes to the positional and keyword arguments of perform; references stay references.

        Raises:
            InvalidArguments: they are no JSON object, or do not fit perform.
            DeserializationError: a reference is to what this application does not know.
        """
        try:
            values = self.load_plain(raw)
        except ValidationError as error:
            raise self.explain(error) from None
        return ((), values) if self.plain else self._signature.to_call(values)

    def show(self, raw: bytes) -> str:
        """JSON bytes as text for people, at most 2,000 characters: as pydantic dumps the values, with stars for secrets.

        Compiled at each call: for those few jobs whose arguments are logged.
        """
        try:
            text = secret_values.shown(self._schema).to_json(self.load_plain(raw), warnings=False).decode()
        except (ValidationError, DeserializationError, *_UNDUMPABLE):  # never with what they say: it may hold values
            return secret_values.NOT_SHOWN
        return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"

    def canonical(self, raw: bytes, by: Collection[str]) -> bytes:
        """JSON bytes as other JSON bytes, the same for all calls with the same arguments: keys sorted, defaults filled in.

        Args:
            raw: what `dump` returned.
            by: only these parameters; empty: all.

        Raises:
            ValueError: there is no such parameter.
        """
        signature = self._signature
        for name in by:
            if name not in signature.names:
                raise ValueError(f"{signature.call} has no parameter {name!r}; it has {', '.join(signature.names)}")
        values: dict[str, Any] = json.loads(raw)
        for name, default in signature.defaults.items():
            if name not in values:
                with suppress(*_UNDUMPABLE):  # it was never validated
                    values |= json.loads(self._to_json({name: default}, round_trip=True, warnings=False))
        kept = {name: value for name, value in values.items() if not by or name in by}
        return json.dumps(kept, sort_keys=True, separators=(",", ":")).encode()

    async def locate(self, raw: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """As `load`, with the records that references stand for.

        Raises:
            InvalidArguments, DeserializationError: as `load` does, or locating a record failed.
            RecordNotFound: one does not exist.
        """
        try:
            values = await locating.load(self.load_plain, raw)
        except ValidationError as error:
            raise self.explain(error) from None
        return self._signature.to_call(values)

    def explain(self, error: ValidationError) -> InvalidArguments:
        """What `load_plain` raised, in this package's terms; never with the values."""
        return explanation.explain(error, call=self._signature.call, keyword_only=self._signature.keyword_only)

    def check_round_trip(self, bound: dict[str, Any], raw: bytes) -> None:
        """Check that `raw`, which `bound` was dumped to, loads as the same values of the same types (nan equals nan).

        Raises:
            InvalidArguments: an argument would arrive changed; names the parameter.
        """
        try:
            arrived = self._load_again(bound, raw) if self.refers else self.load_plain(raw)
        except ValidationError as error:
            raise InvalidArguments(f"what was sent does not load again: {self.explain(error)}") from None
        for name, value in bound.items():
            if name not in arrived or not same(value, arrived[name]):
                raise InvalidArguments(
                    f"{self._signature.call}: argument {name!r} does not arrive as it was sent: a "
                    f"{describe(type(value))} arrives as {_arrived(value, arrived.get(name))}; annotate its exact type, or "
                    "give the type a serialiser and a validator that agree"
                )

    def _load_again(self, bound: dict[str, Any], raw: bytes) -> dict[str, Any]:
        """What `raw` loads as, where the records located are those that were sent."""
        located = locating.Located()
        self._to_json(bound, round_trip=True, warnings=False, context=located.records)
        return cast("Callable[..., dict[str, Any]]", self.load_plain)(raw, context=located)

    def _given(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        names = self._positional
        if not kwargs and len(args) <= len(names):
            if len(args) == 1:  # dict and zip take as long as validation
                return {names[0]: args[0]}
            if len(args) == 2:
                return {names[0]: args[0], names[1]: args[1]}
            return dict(zip(names, args))  # noqa: B905 - the hot path: the check above is the check
        if not args and self.plain:
            return kwargs
        return self._signature.by_name(args, kwargs)

    def _refuse_many(self, given: dict[str, Any], most_items: int) -> None:
        for name, levels in self.many.items():
            value = given.get(name)
            if levels == 1 and type(value) is list and len(value) <= most_items:
                continue
            count = items_in(value, most_items, levels)
            if count > most_items:
                raise PayloadTooLarge(
                    f"{self._signature.call}: argument {name!r} holds {count:,} items, which take more than max_payload: pass an id or "
                    "a reference instead of the data, or raise it: AIOJOBS_RT_MAX_PAYLOAD, or max_payload in aiojobs_rt.toml"
                )

    def _check_readable(self, raw: bytes, bound: dict[str, Any]) -> None:
        """Refuse what was written but can't be read again: better here than in the worker."""
        if self._open_ended and deeper(raw, MAX_DEPTH + 1):
            raise InvalidArguments(
                f"{self._signature.call}: {self._blame(bound, lambda part: deeper(part, MAX_DEPTH + 1))} is nested "
                f"deeper than {MAX_DEPTH} levels"
            )
        if long_number(raw):
            try:
                self.load_plain(raw)
            except ValidationError as error:
                guilty = self._blame(bound, long_number)
                raise InvalidArguments(
                    f"{self._signature.call}: {guilty} would not be read again: {details(error)}"
                ) from None

    def _undumpable(self, bound: dict[str, Any], error: Exception) -> InvalidArguments:
        surrogate = isinstance(error, UnicodeError) or "surrogate" in str(error)
        _, ours, said = str(error).partition(
            f": {InvalidArguments.__name__}: "
        )  # of a reference, as pydantic quotes it
        reason = "it holds a lone surrogate, which is no character" if surrogate else said if ours else str(error)
        guilty = self._blame(bound, bool)
        return InvalidArguments(f"{self._signature.call}: {guilty} can't be written as JSON: {reason}")

    def _blame(self, bound: dict[str, Any], guilty: Callable[[bytes], bool]) -> str:
        """The argument that can't be dumped, or whose JSON is guilty; a message's first words."""
        for name, value in bound.items():
            try:
                part = self._to_json({name: value}, round_trip=True, warnings=False)
            except _UNDUMPABLE:
                return f"argument {name!r}"
            if guilty is not bool and guilty(part):
                return f"argument {name!r}"
        return "an argument"


def explain(error: ValidationError, *, job: str) -> InvalidArguments:
    """As `Arguments.explain`, for whoever has only the job's name."""
    return explanation.explain(error, call=f"{job}.perform()")


def _refused(
    parameter: inspect.Parameter, hints: Mapping[str, Any], local_names: Mapping[str, Any] | None
) -> str | None:
    """What is wrong with a parameter, as the end of a sentence; None when nothing is."""
    if parameter.name not in hints:
        return f"has no annotation; say its type, for example {parameter.name}: int, or {parameter.name}: pydantic.JsonValue"
    if isinstance(parameter.default, FieldInfo):
        return f"has a pydantic Field as its default; write {parameter.name}: Annotated[..., Field(...)] instead"
    annotation = hints[parameter.name]
    if get_origin(annotation) is Unpack or getattr(annotation, "__unpacked__", False):
        return "is unpacked from another type; name each parameter instead"
    wrong = refusal(annotation, local_names)
    return None if wrong is None else f"can't travel unchanged: {wrong}"


def _schema(signature: Signature, hints: Mapping[str, Any], local_names: Mapping[str, Any] | None) -> Schema:
    """The core schema of all parameters as one object.

    pydantic makes it from a TypedDict, so that a class that several parameters hold is defined once. The object around
    them is made anew: what `Annotated[..., Field(...)]` says about aliases and defaults is not for parameters.
    """
    typed = cast("Any", TypedDict)("Parameters", {name: hints[name] for name in signature.names})
    try:
        made = schema_of(typed, local_names)
    except _NO_SCHEMA as error:
        raise InvalidJob(f"{signature.call}: pydantic has no schema for its parameters: {error}") from error
    fields: dict[str, Schema] = (made["schema"] if made["type"] == "definitions" else made)["fields"]
    for name, field in fields.items():
        inner = field["schema"]
        while inner["type"] == "default":
            inner = inner["schema"]
        if name == signature.var_positional:
            inner = {"type": "list", "items_schema": inner}
        elif name == signature.var_keyword:
            inner = {"type": "dict", "keys_schema": {"type": "str"}, "values_schema": inner}
        fields[name] = {"type": "typed-dict-field", "schema": inner, "required": name in signature.required}
    whole: Schema = {"type": "typed-dict", "fields": fields, "extra_behavior": "forbid"}
    return {**made, "schema": whole} if made["type"] == "definitions" else whole


def _arrived(sent: Any, arrived: Any) -> str:
    return "another value" if type(sent) is type(arrived) else f"a {describe(type(arrived))}"
