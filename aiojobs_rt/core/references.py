"""References: a record travels as the text `gid://app/User/42` and arrives as a fresh object.

1. `register` makes a class known by a name. A name from the wire is looked up here and nowhere else.
2. A parameter annotated with the class gets `Referring.schema`: records are written as references, references read as records.
3. `locating.py` validates the bytes of a job, and finds the records that they refer to.

The id stands percent-encoded after the name. It arrives as `identify` gave it: where `locate` declares no type, decimal digits
are an int, and a str of decimal digits has its first one encoded too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, unquote

from pydantic_core import PydanticCustomError, PydanticSerializationUnexpectedValue

from aiojobs_rt.core import registry
from aiojobs_rt.errors import ConfigurationError, DeserializationError, InvalidArguments, InvalidJob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pydantic_core import CoreSchema
    from pydantic_core.core_schema import SerializationInfo, ValidationInfo

    from aiojobs_rt.core.arguments import Arguments
    from aiojobs_rt.core.locating import Located
    from aiojobs_rt.job import Job

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,127}")
_GID = re.compile(r"gid://([^/]+)/([^/]+)/(.+)", re.DOTALL)
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,38})")
_MARK = "aiojobs_rt_reference"
_HOLDERS = {"is-instance", "model", "dataclass"}
_FAIL_FAST = {"list", "tuple", "set", "frozenset"}


class Gid(str):
    """A reference that is passed on as it is, without its record."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """How records of one class travel.

    Attributes:
        kind: the class.
        name: by which it is known on the wire.
        app: gives the application's name.
        identify: a record to its id.
        locate: an id to its record, or None; sync or async.
        locate_many: ids to a mapping by id, or to a sequence in their order; sync or async.
        id_type: int or str, as `locate` declares it; None when it does not.
    """

    kind: type[Any]
    name: str
    app: Callable[[], str]
    identify: Callable[[Any], Any]
    locate: Callable[[Any], Any] | None
    locate_many: Callable[[list[Any]], Any] | None
    id_type: type[int | str] | None

    def text_of(self, record: object) -> str:
        """The reference to a record.

        Raises:
            InvalidArguments: it has no id, or none that could be read again.
        """
        given = self.identify(record)
        if not isinstance(given, int | str) or isinstance(given, bool) or given == "":
            what = (
                "no id; save it first"
                if given in (None, "")
                else f"an id of type {type(given).__name__}, not int or str"
            )
            raise InvalidArguments(f"the {self.name} has {what}")
        text = str(given)
        if not _INTEGER.fullmatch(text) and (self.id_type is int or isinstance(given, int)):
            raise InvalidArguments(f"the id of the {self.name} is no int of at most 39 digits")
        try:
            encoded = quote(text, safe="/:@")
        except UnicodeEncodeError:
            raise InvalidArguments(f"the id of the {self.name} holds a lone surrogate, which is no character") from None
        if self.id_type is None and isinstance(given, str) and _INTEGER.fullmatch(text):
            encoded = f"%{ord(text[0]):02X}{text[1:]}"
        return f"gid://{self.app()}/{self.name}/{encoded}"

    def id_of(self, encoded: str) -> int | str:
        """The id that stands in a reference.

        Raises:
            ValueError: it is not one that `text_of` writes.
        """
        if self.id_type is not str and _INTEGER.fullmatch(encoded):
            return int(encoded)
        if self.id_type is int:
            raise ValueError("not an int")
        return unquote(encoded, errors="strict")


class Referring:
    """An annotation's mark: this class travels as a reference."""

    __slots__ = ("kind",)

    def __init__(self, kind: type[Any]) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return "reference"

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return cast("CoreSchema", self.schema())

    def schema(self) -> dict[str, Any]:
        """The core schema, for callers' values and for the wire."""
        return {
            "type": "function-plain",
            "function": {"type": "with-info", "function": self._read},
            "metadata": {_MARK: True},
            "serialization": {
                "type": "function-plain",
                "function": self._write,
                "info_arg": True,
                "return_schema": {"type": "str"},
                "when_used": "always",
            },
        }

    def _read(self, value: Any, info: ValidationInfo) -> Any:
        """A record, from a caller or located; without a context, the reference itself.

        Raises:
            PydanticCustomError: it is neither, or of another class.
            DeserializationError: it is a reference to what this application does not know.
        """
        if isinstance(value, self.kind):
            return value
        if not (isinstance(value, Gid) or (isinstance(value, str) and info.mode == "json")):
            raise PydanticCustomError("reference", "Input should be a {kind}", {"kind": self.kind.__name__})
        reference, id_ = _parsed(value)
        if not (issubclass(reference.kind, self.kind) or issubclass(self.kind, reference.kind)):
            raise self._other(reference.name)
        located: Located | None = info.context
        if located is None:
            return Gid(value)
        record = located.records.get(value)
        if record is None:
            located.missing[value] = reference, id_
            raise PydanticCustomError("reference_missing", "The record is not located yet")
        if not isinstance(record, self.kind):
            raise self._other(type(record).__name__)
        return record

    def _other(self, name: str) -> PydanticCustomError:
        return PydanticCustomError(
            "reference_other",
            "Input should be a reference to a {kind}, not to a {other}",
            {"kind": self.kind.__name__, "other": name},
        )

    def _write(self, value: Any, info: SerializationInfo) -> str:
        """The reference to a record, which is noted in the context, if there is one."""
        if isinstance(value, Gid):
            return str(value)
        if not isinstance(value, self.kind):
            raise PydanticSerializationUnexpectedValue(f"not a {self.kind.__name__}")
        text = text_of(value)
        if info.context is not None:
            info.context[text] = value
        return text


_by_name: dict[str, Reference] = {}
_by_class: dict[type[Any], Reference] = {}


def register(reference: Reference) -> None:
    """Make a class known; the same class again, or a reloaded one, takes the place of what was.

    Jobs that were defined before, and take records of the class by value, take references from now on.

    Raises:
        ConfigurationError: another class has this name, or it is no name; or a job that was defined before can't take references.
    """
    if not NAME.fullmatch(reference.name):
        raise ConfigurationError(
            f"{reference.name!r} is no name for references: letters, digits and any of _ . : - make one; give name=..."
        )
    known = _by_name.get(reference.name)
    if known is not None:
        ours, theirs = reference.kind, known.kind
        if "<locals>" not in theirs.__qualname__ and _full_name(ours) != _full_name(theirs):
            raise ConfigurationError(
                f"references named {reference.name!r} are those of {_full_name(theirs)}; "
                f'give {_full_name(ours)} a name of its own: name="..."'
            )
        _by_class.pop(theirs, None)
    before = _by_class.get(reference.kind)
    if before is not None:
        del _by_name[before.name]
    _by_name[reference.name] = _by_class[reference.kind] = reference
    try:
        _refer_from_now_on(reference.kind)
    except InvalidJob as error:
        del _by_name[reference.name], _by_class[reference.kind]
        raise ConfigurationError(
            f"a job that takes {reference.name} is defined already: {error}; register {_full_name(reference.kind)} before"
        ) from None


def _refer_from_now_on(kind: type[Any]) -> None:
    """Compile the jobs anew that take records of a class by value."""
    made: list[tuple[type[Job], Arguments]] = []
    for _, job_class in registry.job_classes():
        arguments = job_class._arguments  # noqa: SLF001 - compiled when the class was defined, or to be compiled at first use
        if arguments is not None and any(issubclass(held, kind) for held in arguments.by_value):
            made.append((job_class, arguments.referring()))
    for job_class, arguments in made:
        job_class._take(arguments)  # noqa: SLF001 - as above


def find(kind: type[Any]) -> Reference | None:
    """How a class travels: as itself, or as the nearest of its bases that is registered; None: not as a reference."""
    if not _by_class:
        return None
    return next((_by_class[base] for base in kind.__mro__ if base in _by_class), None)


def text_of(record: Any) -> str:
    """The reference to a record of a registered class; `__class__` sees through lazy objects."""
    reference = find(record.__class__)
    if reference is None:
        raise InvalidArguments(f"{type(record).__name__} is not registered: register_reference(...)")
    return reference.text_of(record)


def refer(schema: Any, inner: Iterable[str], by_value: set[type[Any]]) -> tuple[Any, bool]:
    """A core schema with references for the registered classes that its models and dataclasses hold; and whether it has any.

    Args:
        schema: a core schema, or a list or dict of them; it is not changed.
        inner: the keys under which a core schema holds further ones.
        by_value: the other classes in it are added here.
    """
    if isinstance(schema, list | tuple):
        pairs = [refer(item, inner, by_value) for item in schema]
        return type(schema)(made for made, _ in pairs), any(found for _, found in pairs)
    if not isinstance(schema, dict):
        return schema, False
    kind = schema.get("type")
    if not isinstance(kind, str):  # fields or choices by name
        named = {name: refer(item, inner, by_value) for name, item in schema.items()}
        return {name: made for name, (made, _) in named.items()}, any(found for _, found in named.values())
    if (schema.get("metadata") or {}).get(_MARK):
        return schema, True
    held = schema.get("cls")
    if kind in _HOLDERS and isinstance(held, type):
        if find(held) is not None:
            made = Referring(held).schema()
            return ({**made, "ref": schema["ref"]} if "ref" in schema else made), True
        by_value.add(held)
    copied: dict[str, Any] = dict(schema)
    refers = False
    for key in inner:
        if key in copied:
            copied[key], found = refer(copied[key], inner, by_value)
            refers = refers or found
    if refers and kind in _FAIL_FAST:
        copied["fail_fast"] = False  # all references are to be met at once
    return copied, refers


def is_reference(schema: Mapping[str, Any]) -> bool:
    """Whether a core schema is that of a reference."""
    return bool((schema.get("metadata") or {}).get(_MARK))


def _parsed(text: str) -> tuple[Reference, int | str]:
    match = _GID.fullmatch(text)
    if match is None:
        raise PydanticCustomError("reference", "Input should be a reference, gid://app/Name/id")
    app, name, encoded = match.groups()
    reference = _by_name.get(name)
    if reference is None:
        raise DeserializationError(
            f"no class is registered for references named {name[:200]!r}; call register_reference for it in a module that "
            "the worker imports"
        )
    if app != reference.app():
        raise DeserializationError(
            f"a reference to {name} belongs to the application {app[:200]!r}, this one is {reference.app()!r} (the setting app)"
        )
    try:
        return reference, reference.id_of(encoded)
    except ValueError:
        raise PydanticCustomError("reference_id", "The id of the reference can't be read") from None


def _full_name(kind: type[Any]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
