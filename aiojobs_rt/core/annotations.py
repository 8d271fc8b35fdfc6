"""What a parameter of perform may be annotated: resolving annotations, and refusing what JSON can't carry unchanged.

1. `resolve` evaluates a function's annotations (`Unresolved` when a name is not defined yet) and puts concrete types in
   the place of a generic job class's type variables.
2. `referring` marks the classes that travel as references.
3. `refusal` looks at what stands in one annotation and says what is wrong with it, and what to write instead.

A class's own fields (of a model, dataclass, TypedDict) are that class's business: they are not looked into.
"""

from __future__ import annotations

import collections
import re
import types
import typing
from collections import abc
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, ForwardRef, Literal, TypeVar, Union, get_args, get_origin

import typing_extensions
from pydantic import (
    BeforeValidator,
    Discriminator,
    GetPydanticSchema,
    JsonValue,
    PlainSerializer,
    PlainValidator,
    TypeAdapter,
    WrapSerializer,
    WrapValidator,
)
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError
from pydantic_core import SchemaError

from aiojobs_rt.core.references import Referring, find
from aiojobs_rt.core.shapes import indistinguishable, unfit_key
from aiojobs_rt.errors import InvalidJob

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Whoever writes one of these has taken the type's way through JSON into their own hands.
_CUSTOM = (
    BeforeValidator,
    PlainValidator,
    WrapValidator,
    PlainSerializer,
    WrapSerializer,
    GetPydanticSchema,
    Referring,
)
_NO_REFERENCE = (PlainValidator, PlainSerializer, GetPydanticSchema)
_UNKNOWN_CLASS = re.compile(r"schema for <class '(?:[^']*\.)?([^'.]+)'>")

_INSTEAD: dict[Any, str] = {
    list: "list[int]",
    set: "set[int]",
    frozenset: "frozenset[int]",
    tuple: "tuple[int, ...]",
    dict: "dict[str, int]",
    collections.deque: "deque[int]",
    collections.OrderedDict: "OrderedDict[str, int]",
    collections.defaultdict: "defaultdict[str, int]",
    collections.Counter: "Counter[str]",
    abc.Sequence: "Sequence[int]",
    abc.MutableSequence: "list[int]",
    abc.Set: "frozenset[int]",
    abc.MutableSet: "set[int]",
    abc.Mapping: "Mapping[str, int]",
    abc.MutableMapping: "dict[str, int]",
    abc.Collection: "list[int]",
}
_LAZY = (abc.Iterable, abc.Iterator, abc.Generator, abc.AsyncIterable, abc.AsyncIterator, abc.AsyncGenerator)
_MAPPINGS = (dict, collections.OrderedDict, collections.defaultdict, abc.Mapping, abc.MutableMapping)
_NO_SCHEMA = (PydanticUserError, SchemaError, TypeError)  # PydanticSchemaGenerationError is a PydanticUserError


class Unresolved(NameError):  # noqa: N818 - not an error yet: to be tried again
    """An annotation names something that is not defined yet: try again at first use, or at worker start.

    The message says which name; whoever gives up adds the job.
    """


def resolve(
    function: Callable[..., Any],
    *,
    job: str,
    local_names: Mapping[str, Any] | None = None,
    type_arguments: Mapping[Any, Any] | None = None,
) -> dict[str, Any]:
    """The evaluated annotations of `function` by parameter name, "return" among them, with `Annotated` kept.

    Raises:
        Unresolved: a name in an annotation is not defined (yet).
        InvalidJob: an annotation is no type expression at all.
    """
    try:
        hints = typing_extensions.get_type_hints(
            function, localns=None if local_names is None else dict(local_names), include_extras=True
        )
    except (NameError, AttributeError) as error:  # AttributeError: `module.Name` while the modules import each other
        raise Unresolved(str(error)) from error
    except (TypeError, SyntaxError) as error:
        raise InvalidJob(f"{job}: an annotation of {function.__name__}() is not a type: {error}") from error
    return {name: substitute(hint, type_arguments) for name, hint in hints.items()} if type_arguments else hints


def substitute(hint: Any, type_arguments: Mapping[Any, Any]) -> Any:
    """`hint` with concrete types for type variables, however deep they stand."""
    if isinstance(hint, TypeVar):
        return type_arguments.get(hint, hint)
    if isinstance(hint, type) and get_origin(hint) is None:
        own: tuple[Any, ...] = getattr(
            hint, "__parameters__", ()
        )  # a generic pydantic model, subscripted with variables
        mine = tuple(type_arguments.get(parameter, parameter) for parameter in own)
        return typing.cast("Any", hint)[mine] if mine != own else hint
    before = get_args(hint)
    if not before or get_origin(hint) is Literal:
        return hint
    after = tuple(substitute(argument, type_arguments) for argument in before)
    if after == before:
        return hint
    origin = get_origin(hint)
    if origin is Annotated:
        return Annotated[(after[0], *hint.__metadata__)]
    if origin in (Union, types.UnionType):
        return Union[after]  # noqa: UP007 - the members are only known now
    return typing.cast("Any", origin)[after]


def referring(hints: dict[str, Any]) -> dict[str, Any]:
    """Annotations in which each class that travels as a reference is marked so, however deep it stands."""
    return {name: _referring(hint, ()) for name, hint in hints.items()}


def schema_of(annotation: Any, local_names: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The core schema that pydantic makes of one annotation.

    Raises:
        Unresolved: it holds a class that is not fully defined yet.
        PydanticUserError, SchemaError, TypeError: pydantic has no schema for it.
    """
    try:
        adapter = TypeAdapter[Any](annotation)
        if not adapter.pydantic_complete:
            adapter.rebuild(raise_errors=True, _types_namespace=dict(local_names or {}))
    except PydanticUndefinedAnnotation as error:
        raise Unresolved(f"name {error.name!r} is not defined") from error
    except PydanticUserError as error:
        if error.code == "class-not-fully-defined":
            raise Unresolved(error.message) from error
        raise
    if not adapter.pydantic_complete:
        raise Unresolved(f"{describe(annotation)} is not fully defined")
    return typing.cast("dict[str, Any]", adapter.core_schema)


def refusal(annotation: Any, local_names: Mapping[str, Any] | None = None) -> str | None:
    """What is wrong with an annotation and what to write instead, as the end of a sentence; None when it may travel.

    Raises:
        Unresolved: it holds a class that is not fully defined yet.
    """
    wrong = _refusal(annotation, local_names, inside_alias=())
    if wrong is not None:
        return wrong
    try:
        schema_of(annotation, local_names)
    except _NO_SCHEMA as error:
        return _no_schema(annotation, error)
    return None


def describe(annotation: Any) -> str:
    """An annotation as its author would write it."""
    if get_origin(annotation) is Annotated and any(isinstance(mark, Referring) for mark in annotation.__metadata__):
        annotation = get_args(annotation)[0]
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return annotation.__qualname__ if annotation.__module__ != "builtins" else annotation.__name__
    return str(annotation).replace("typing.", "").replace("typing_extensions.", "")


def _referring(hint: Any, inside_alias: tuple[Any, ...]) -> Any:
    origin, before = get_origin(hint), get_args(hint)
    if isinstance(hint, type) and origin is None:
        return hint if find(hint) is None else Annotated[hint, Referring(hint)]
    if origin is Literal or hint is JsonValue or hint in inside_alias:
        return hint
    if origin is Annotated:
        if any(isinstance(mark, _NO_REFERENCE) for mark in hint.__metadata__):
            return hint
        inner = _referring(before[0], inside_alias)
        return hint if inner is before[0] else Annotated[(inner, *hint.__metadata__)]
    alias = _alias_value(hint, origin)
    if alias is not None:
        value = _referring(alias, (*inside_alias, hint))
        return hint if value is alias else value
    after = tuple(_referring(argument, inside_alias) for argument in before)
    if all(made is given for made, given in zip(after, before, strict=True)):
        return hint
    if origin in (Union, types.UnionType):
        return Union[after]  # noqa: UP007 - the members are only known now
    return origin[after]


def _no_schema(annotation: Any, error: Exception) -> str:
    unknown = _UNKNOWN_CLASS.search(str(error))
    detail = str(getattr(error, "message", error)).splitlines()[0].partition(". Set `arbitrary")[0]
    return (
        f"{describe(annotation)} can't travel as JSON ({detail}); use a type that pydantic can serialise, an id to load "
        f"it by, register_reference({unknown[1] if unknown else '...'}, ...) before the class is defined, or "
        "Annotated[..., PlainSerializer(...), PlainValidator(...)]"
    )


def _refusal(annotation: Any, local_names: Mapping[str, Any] | None, inside_alias: tuple[Any, ...]) -> str | None:
    """`refusal` of what stands in the annotation itself; `inside_alias` ends the walk of a recursive alias."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is JsonValue or annotation in inside_alias:
        return None
    if origin is Literal:
        return _literal(annotation, arguments)
    if annotation is Any or annotation in (object, abc.Hashable, typing.Hashable):
        return (
            f"{describe(annotation)} loses its type in JSON; name the type, or write pydantic.JsonValue for plain JSON"
        )
    if isinstance(annotation, TypeVar):
        return f"nobody says what the type variable {annotation} stands for; give the base class a type: Base[int]"
    if isinstance(annotation, (str, ForwardRef)):
        instead = ", or put the whole value of the alias in quotes" if inside_alias else ""
        return f"the quoted name {annotation!r} was not resolved; write it without quotes{instead}"
    if origin is Annotated:
        if any(isinstance(mark, _CUSTOM) for mark in annotation.__metadata__):
            return None
        tagged = any(
            isinstance(mark, Discriminator) or getattr(mark, "discriminator", None) is not None
            for mark in annotation.__metadata__
        )
        return _each(get_args(arguments[0]) if tagged else arguments[:1], local_names, inside_alias)
    alias = _alias_value(annotation, origin)
    if alias is not None:
        return _refusal(alias, local_names, (*inside_alias, annotation))
    if isinstance(annotation, type) and origin is None and getattr(annotation, "__parameters__", None):
        return f"{describe(annotation)} does not say of what; give its type variables types: {annotation.__name__}[int]"
    bare = origin if origin is not None else annotation
    if type(bare).__hash__ is None:
        return f"{annotation!r} is not a type"
    if bare in _LAZY:
        return f"{describe(annotation)} can be read only once; write list[...] or tuple[..., ...]"
    if bare is abc.Callable or bare is type:
        return f"{describe(annotation)} can't travel as JSON; pass a name or an enum member, and look it up in perform"
    if bare in _INSTEAD and not arguments and annotation not in (tuple[()], typing.Tuple[()]):  # noqa: UP006 - both spellings
        return (
            f"{describe(annotation)} does not say of what, and its items lose their types in JSON; write for example "
            f"{_INSTEAD[bare]}, or pydantic.JsonValue for plain JSON"
        )
    if origin in (Union, types.UnionType):
        return _each(arguments, local_names, inside_alias) or _union(annotation, arguments, local_names)
    if (origin in _MAPPINGS or origin is collections.Counter) and arguments:
        return _each(arguments, local_names, inside_alias) or _key(annotation, arguments[0], local_names)
    return _each(arguments, local_names, inside_alias)


def _each(
    annotations: tuple[Any, ...], local_names: Mapping[str, Any] | None, inside_alias: tuple[Any, ...]
) -> str | None:
    for annotation in annotations:
        wrong = None if annotation in (..., ()) else _refusal(annotation, local_names, inside_alias)
        if wrong is not None:
            return wrong
    return None


def _literal(annotation: Any, values: tuple[Any, ...]) -> str | None:
    """A literal travels when it holds JSON's own values, or members of one enum; an enum's among others lose themselves."""
    if all(isinstance(value, (str, int, type(None))) and not isinstance(value, Enum) for value in values):
        return None
    if isinstance(values[0], Enum) and all(type(value) is type(values[0]) for value in values):
        return None
    return (
        f"{describe(annotation)} holds values that JSON has not; write a Literal of str, int, bool and None, or one of "
        "members of a single enum"
    )


def _alias_value(annotation: Any, origin: Any) -> Any:
    """What a `type` alias, NewType or Required stands for; None for anything else."""
    if isinstance(annotation, typing.NewType):
        return annotation.__supertype__
    if isinstance(annotation, typing_extensions.TypeAliasType):
        value = annotation.__value__
        return _unquoted(value, annotation.__module__) if isinstance(value, str) else value
    if isinstance(origin, typing_extensions.TypeAliasType):
        return substitute(origin.__value__, dict(zip(origin.__type_params__, get_args(annotation), strict=False)))
    return None


def _unquoted(value: str, module: str | None) -> Any:
    """What an alias stands for whose value is quoted, as one that holds itself is before Python 3.12; the text if a name in it is unknown."""
    holder = type("Alias", (), {"__annotations__": {"value": value}, "__module__": module})
    try:
        return typing_extensions.get_type_hints(holder, include_extras=True)["value"]
    except (NameError, AttributeError, TypeError, SyntaxError):
        return value


def _union(annotation: Any, members: tuple[Any, ...], local_names: Mapping[str, Any] | None) -> str | None:
    try:
        clash = indistinguishable([schema_of(member, local_names) for member in members])
    except _NO_SCHEMA as error:
        return _no_schema(annotation, error)
    if clash is None:
        return None
    one, other = (describe(members[index]) for index in clash)
    return (
        f"in {describe(annotation)}, JSON can't tell {one} from {other}; choose one of them, "
        "discriminate models by a Literal field, or write pydantic.JsonValue for plain JSON"
    )


def _key(annotation: Any, key: Any, local_names: Mapping[str, Any] | None) -> str | None:
    try:
        unfit = unfit_key(schema_of(key, local_names))
    except _NO_SCHEMA as error:
        return _no_schema(annotation, error)
    if not unfit:
        return None
    return (
        f"in {describe(annotation)}, a key of type {describe(key)} does not come back from JSON, where keys are strings; "
        "use one plain type such as str, int or UUID, or a list of pairs"
    )
