"""pydantic schemas made fit for a round trip: what is dumped loads again as the same value.

pydantic's schemas are made for showing data to others: bytes are text, nan is null, a secret is stars, excluded fields are
left out, aliases are used on one way only. Here each schema is copied, and the copies differ from the originals in that:

* bytes travel as base64, nan and inf as strings, at any depth. pydantic reads these settings in different places: a
  serialiser from the outermost config, a validator from that of the nearest typed dict, a model or dataclass only from
  its own. So they are set in all three. What a model's own config sets itself stays;
* secrets travel by value, excluded fields travel, fields travel under their names whatever their aliases;
* keys are looked at even where any string will do: a lone surrogate in one would be replaced without a word;
* an int is looked at again, by a constraint that every int meets: pydantic gives an Enum's value back as it is, text too;
* an Enum's member is found by the JSON of its value too: pydantic finds it by the value alone, and that of a tuple is a list by then;
* a list ends at its first wrong item: a million errors would take seconds to tell;
* where a union (or JsonValue) takes both str and float, a float must be finite: "NaN" would come back as a str.

A serialiser that a user wrote stays as it is.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic_core import SchemaSerializer, SchemaValidator

from aiojobs_rt.core.message import NOTHING
from aiojobs_rt.core.references import is_reference
from aiojobs_rt.core.shapes import in_json, indistinguishable, text_like

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic_core import CoreConfig, CoreSchema

    from aiojobs_rt.core.shapes import Schema

B = TypeVar("B")

# What callers give is no JSON: a str for bytes is text, not base64.
_INCOMING: dict[str, Any] = {"hide_input_in_errors": True}
_TRAVELLING: dict[str, Any] = {
    **_INCOMING,
    "ser_json_bytes": "base64",
    "val_json_bytes": "base64",
    "ser_json_inf_nan": "strings",
}

# The keys under which a core schema holds further ones; what stands under others is a user's (defaults, metadata).
INNER = (
    "schema",
    "items_schema",
    "keys_schema",
    "values_schema",
    "choices",
    "fields",
    "definitions",
    "python_schema",
    "json_schema",
    "lax_schema",
    "strict_schema",
    "steps",
    "return_schema",
    "serialization",
    "extras_schema",
    "arguments_schema",
)
_FAIL_FAST = {"list", "tuple", "set", "frozenset"}
_FIELDS = {"model-field", "dataclass-field", "typed-dict-field"}
_DROPPED = {"validation_alias", "serialization_alias", "serialization_exclude", "serialization_exclude_if"}


def incoming(schema: Schema) -> SchemaValidator:
    """A validator for the Python values that a caller gives: aliases as the models say."""
    return _built(SchemaValidator, _adapted(schema, _INCOMING, travelling=False), _INCOMING)


def travelling(schema: Schema) -> tuple[SchemaSerializer, SchemaValidator]:
    """A serialiser to JSON bytes, and the validator that reads them."""
    adapted = _adapted(schema, _TRAVELLING, travelling=True)
    return _built(SchemaSerializer, adapted, _TRAVELLING), _built(SchemaValidator, adapted, _TRAVELLING)


def readable(schema: Schema) -> SchemaSerializer:
    """A serialiser to JSON as pydantic has it."""
    return _built(SchemaSerializer, schema, _TRAVELLING)


def open_ended(schema: Any) -> bool:
    """Whether values may be nested without end: a schema that refers to itself, or takes anything."""
    if isinstance(schema, (list, tuple)):
        return any(map(open_ended, schema))
    if not isinstance(schema, dict):
        return False
    kind = schema.get("type")
    if not isinstance(kind, str):
        return any(map(open_ended, schema.values()))
    return kind in {"definition-ref", "any"} or any(open_ended(schema[key]) for key in INNER if key in schema)


def ambiguous(schema: Any, known: Mapping[str, Schema] = NOTHING) -> bool:
    """Whether a union holds a reference beside what JSON can't tell from it."""
    if isinstance(schema, (list, tuple)):
        return any(ambiguous(item, known) for item in schema)
    if not isinstance(schema, dict):
        return False
    kind = schema.get("type")
    if not isinstance(kind, str):
        return any(ambiguous(item, known) for item in schema.values())
    if kind == "definitions":
        known = {definition["ref"]: definition for definition in schema["definitions"]}
    elif kind == "union":
        plain = [choice[0] if isinstance(choice, tuple) else choice for choice in schema["choices"]]
        choices = [known.get(choice.get("schema_ref", ""), choice) for choice in plain]
        if any(map(is_reference, choices)) and indistinguishable(choices):
            return True
    return any(ambiguous(schema[key], known) for key in INNER if key in schema)


def _built(kind: Callable[..., B], schema: Schema, config: dict[str, Any]) -> B:
    arguments = cast("CoreSchema", schema), cast("CoreConfig", config)
    try:
        # Without it, models bring the validators and serialisers that they were defined with.
        return kind(*arguments, _use_prebuilt=False)
    except TypeError as error:  # a pydantic that does not know it
        if "_use_prebuilt" not in str(error):
            raise
        return kind(*arguments)


def _adapted(schema: Any, config: dict[str, Any], *, travelling: bool) -> Any:
    """A copy of a core schema (or of a list or dict of them) with the changes named above."""
    if isinstance(schema, (list, tuple)):
        return type(schema)(_adapted(item, config, travelling=travelling) for item in schema)
    if not isinstance(schema, dict):
        return schema  # the label beside a union's choice
    kind = schema.get("type")
    if not isinstance(kind, str):  # fields or choices by name, where "type" may be a name
        return {name: _adapted(inner, config, travelling=travelling) for name, inner in schema.items()}
    copied: Schema = dict(schema)
    if kind in {"model", "dataclass"} and travelling:
        config = {**_TRAVELLING, **(copied.get("config") or {})}
        config["val_json_bytes"] = config["ser_json_bytes"]
        copied["config"] = config
    elif kind == "typed-dict" and travelling:
        copied["config"] = {**(copied.get("config") or {}), **{key: config[key] for key in _TRAVELLING}}
    elif kind in {"union", "tagged-union"}:
        copied["choices"] = _finite(copied["choices"])
    elif kind == "int" and not travelling:
        copied.setdefault("multiple_of", 1)
    elif kind == "literal" and travelling:
        copied = _literal(copied)
    elif kind in _FAIL_FAST:
        copied.setdefault("fail_fast", True)
    elif kind in _FIELDS and travelling:
        copied = {key: value for key, value in copied.items() if key not in _DROPPED}
    elif kind == "json-or-python" and is_secret(copied.get("serialization")):
        copied["serialization"] = _by_value(copied["json_schema"]["schema"])
    keys = copied.get("keys_schema")
    if keys is not None and keys["type"] == "str":
        copied["keys_schema"] = {"min_length": 0, **keys}
    for key in INNER:
        if key in copied:
            copied[key] = _adapted(copied[key], config, travelling=travelling)
    return _enum(copied) if travelling and copied["type"] == "enum" else copied


def _finite(choices: Any) -> Any:
    """A union's choices; its floats finite when another choice may be a string in JSON."""
    named = isinstance(choices, dict)
    plain = [choice[0] if isinstance(choice, tuple) else choice for choice in (choices.values() if named else choices)]
    if not (any(choice["type"] == "float" for choice in plain) and any(map(text_like, plain))):
        return choices
    finite = [{**choice, "allow_inf_nan": False} if choice["type"] == "float" else choice for choice in plain]
    return dict(zip(choices, finite, strict=True)) if named else finite


def _literal(schema: Schema) -> Schema:
    """A literal of an enum's members as that enum: pydantic's literals know enum members, but not their JSON."""
    kinds: set[type[Any]] = {type(value) for value in schema["expected"]}
    (kind, *others) = kinds
    if others or not issubclass(kind, Enum):
        return schema
    made: Schema = {"type": "enum", "cls": kind, "members": schema["expected"]}
    for sub_type in (str, int):
        if issubclass(kind, sub_type):
            made["sub_type"] = sub_type.__name__
    return made


def _enum(schema: Schema) -> Schema:
    """An enum whose members are also found by what their values are in JSON."""
    by_json = [(in_json(member.value), member) for member in schema["members"]]
    changed = [(json, member) for json, member in by_json if json != member.value]
    if not changed:
        return schema

    def find(given: Any) -> Any:
        return next((member for json, member in changed if json == given), given)

    inner = {key: value for key, value in schema.items() if key != "ref"}
    made = {"type": "function-before", "function": {"type": "no-info", "function": find}, "schema": inner}
    return {**made, "ref": schema["ref"]} if "ref" in schema else made


def is_secret(serialiser: Schema | None) -> bool:
    """Whether this is pydantic's own serialiser of SecretStr, SecretBytes or Secret, which dumps stars."""
    function = None if serialiser is None else serialiser.get("function")
    return getattr(function, "__module__", "") == "pydantic.types" and "secret" in getattr(function, "__name__", "")


def _by_value(inner: Schema) -> Schema:
    return {"type": "function-plain", "function": _secret_value, "return_schema": inner, "when_used": "always"}


def _secret_value(secret: Any) -> Any:
    return secret.get_secret_value()
