"""What a type looks like in JSON: can the members of a union be told apart there, can a type be an object's key?

Judged from pydantic's core schema of the type, so that every way of writing a type is judged alike. What can't be judged
(a type with a serialiser or validator of its own) counts as fine: the round-trip check of the test adapters looks there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from itertools import combinations
from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json

from aiojobs_rt.core.references import is_reference

Schema = dict[str, Any]

_SCALARS = {
    "none": "null",
    "bool": "boolean",
    "int": "integer",
    "float": "float",
    **dict.fromkeys(
        ("str", "bytes", "date", "time", "datetime", "timedelta", "uuid", "decimal", "url", "multi-host-url"), "string"
    ),
    **dict.fromkeys(("complex", "fraction"), "string"),
}
_ARRAYS = {"list", "tuple", "set", "frozenset", "deque", "generator", "named-tuple"}
_MAPS = {"dict", "ordered-dict", "default-dict", "counter", "mapping"}
_CLASSES = {"model", "dataclass", "typed-dict"}
# Their texts never look alike. A time looks like a timedelta, and anything like a str.
_APART = {"date", "datetime", "timedelta", "uuid", "reference"}
# These never take a word for one of theirs, unless it has a digit or is one of the few they know.
_NUMERIC = _APART | {"bool", "int", "float", "decimal", "time", "complex", "fraction"}
_NUMBER_LIKE = re.compile(r"[0-9]|^[+-]?(nan|inf|infinity|true|false|[tfyn]|yes|no|on|off|)$", re.IGNORECASE)
_UNKNOWN = "?"
_JSON = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "float",
    type(None): "null",
    list: "array",
    dict: "object",
}


@dataclass(frozen=True, slots=True)
class Shape:
    """One way a value may look in JSON.

    Attributes:
        json: "null", "boolean", "integer", "float", "string", "array", "object", or "?" when it can't be told.
        python: the core schema's type, such as "uuid".
        values: all there are, of a literal or an enum.
        schema: the core schema, of a class with fields.
    """

    json: str
    python: str
    values: frozenset[Any] | None = None
    schema: Schema | None = None


def indistinguishable(members: list[Schema]) -> tuple[int, int] | None:
    """The positions of the first two members of a union that JSON can't tell apart; None when there are none."""
    shapes = [list(_shapes(schema, {})) for schema in members]
    for (one, ones), (other, others) in combinations(enumerate(shapes), 2):
        if any(_clash(a, b) for a in ones for b in others):
            return one, other
    return None


def unfit_key(schema: Schema) -> bool:
    """Whether keys of this type don't come back from a JSON object, whose keys are strings."""
    shapes = list(_shapes(schema, {}))
    if any(shape.json in {"null", "array", "object"} for shape in shapes):
        return True
    if any(not _text(value) for shape in shapes if shape.values for value in shape.values):
        return True
    return len({shape.python for shape in shapes}) > 1


def text_like(schema: Schema) -> bool:
    """Whether a value may be a string in JSON, so that the strings "NaN" and "Infinity" are not free to mean a float."""
    return any(shape.json == "string" for shape in _shapes(schema, {}))


def _text(value: Any) -> bool:
    """Whether a literal's or enum's value comes back from an object's key; an IntEnum does, by pydantic's own rule."""
    return isinstance(value, str) or (isinstance(value, Enum) and isinstance(value, (str, int)))


def _shapes(schema: Schema, definitions: dict[str, Schema]) -> list[Shape]:
    """Every shape that a core schema allows."""
    kind = schema["type"]
    if kind == "definitions":
        known = definitions | {definition["ref"]: definition for definition in schema["definitions"]}
        return _shapes(schema["schema"], known)
    if kind == "definition-ref":
        return _shapes(definitions.get(schema["schema_ref"], {"type": _UNKNOWN}), {})
    if is_reference(schema):
        return [Shape("string", "reference")]
    serialiser = schema.get("serialization")
    if serialiser is not None:
        return _serialised(schema, serialiser, definitions)
    if kind in _SCALARS:
        return [Shape(_SCALARS[kind], kind)]
    if kind in _ARRAYS:
        return [Shape("array", kind)]
    if kind in _MAPS:
        return [Shape("object", kind)]
    if kind in _CLASSES:
        inner = schema.get("schema", schema)
        if kind == "model" and schema.get("root_model"):
            return _shapes(inner, definitions)
        return [Shape("object", kind, schema=inner)]
    if kind in {"literal", "enum"}:
        values: list[Any] = schema["expected" if kind == "literal" else "members"]
        return [Shape(json, kind, of) for json, of in _by_json(values).items()]
    if kind == "nullable":
        return [Shape("null", "none"), *_shapes(schema["schema"], definitions)]
    if kind in {"union", "tagged-union"}:
        choices = schema["choices"].values() if isinstance(schema["choices"], dict) else schema["choices"]
        return [
            shape
            for choice in choices
            for shape in _shapes(choice[0] if isinstance(choice, tuple) else choice, definitions)
        ]
    if kind == "json-or-python":
        return _shapes(schema["json_schema"], definitions)
    if kind == "lax-or-strict":
        return _shapes(schema["strict_schema"], definitions)
    if kind == "chain":
        return _shapes(schema["steps"][0], definitions)
    if kind in {"default", "function-before", "function-after", "function-wrap", "model-fields", "dataclass-args"}:
        return _shapes(schema["schema"], definitions) if "schema" in schema else [Shape("object", kind)]
    return [Shape(_UNKNOWN, kind)]


def _serialised(schema: Schema, serialiser: Schema, definitions: dict[str, Schema]) -> list[Shape]:
    """The shapes of a type with a serialiser: pydantic's own types are known to be strings or arrays in JSON."""
    bare = {key: value for key, value in schema.items() if key != "serialization"}
    shapes = _shapes(bare, definitions)
    function = serialiser.get("function")
    if serialiser["type"] == "to-string" or getattr(function, "__module__", "").startswith("pydantic."):
        known = {shape.json for shape in shapes} & {"array", "object"}
        inner = " ".join(shape.python for shape in shapes)
        return [Shape(known.pop() if known else "string", f"custom {id(function)} {inner}")]
    returned = serialiser.get("return_schema")
    if returned is not None and returned["type"] != "any":
        return [Shape(shape.json, f"custom {id(function)}") for shape in _shapes(returned, definitions)]
    return [Shape(_UNKNOWN, schema["type"])]


def _by_json(values: list[Any]) -> dict[str, frozenset[Any]]:
    """A literal's or enum's members by how they look in JSON."""
    found: dict[str, set[Any]] = {}
    for value in values:
        plain = in_json(value.value if isinstance(value, Enum) else value)
        found.setdefault(_JSON.get(type(plain), _UNKNOWN), set()).add(value)
    return {json: frozenset(members) for json, members in found.items()}


def _clash(a: Shape, b: Shape) -> bool:
    if _UNKNOWN in {a.json, b.json}:
        return False
    if a.values is not None and b.values is not None:
        return a.python + b.python != "literalliteral" and bool(_plain(a.values) & _plain(b.values))
    if a.values is not None:
        return _taken_for(a, b)
    if b.values is not None:
        return _taken_for(b, a)
    if a.json != b.json or a.json in {"null", "boolean"}:
        return False
    if a.json == "array":
        return True
    if a.json == "object":
        return a.schema is None or b.schema is None or not _apart(a.schema, b.schema)
    return a.python != b.python and not {a.python, b.python} <= _APART


def _taken_for(finite: Shape, other: Shape) -> bool:
    """Whether a literal's or enum's member and a value of another type may be taken for each other.

    A literal is read exactly (but 1 and 1.0 and True are equal), an enum with the same leniency as a number or a time.
    """
    if {finite.json, other.json} & {"null", "array", "object"}:
        return finite.json == other.json != "null"
    if finite.json == "string":
        words = {str(word) for word in _plain(finite.values or frozenset[Any]())}
        if other.python == "str":
            return finite.python == "enum"
        return other.python not in _NUMERIC or any(_NUMBER_LIKE.search(word) for word in words)
    if finite.python == "literal":
        return other.python in {"bool", "float", "int"} and (finite.json, other.python) != ("integer", "int")
    return other.python not in {"str", "bytes", "uuid"}


def _plain(values: frozenset[Any]) -> set[Any]:
    plain = [in_json(value.value if isinstance(value, Enum) else value) for value in values]
    return {to_json(value) if isinstance(value, list | dict) else value for value in plain}


def in_json(value: Any) -> Any:
    """What an Enum's value is when it is read from JSON; itself, where it has none."""
    if isinstance(value, (str, int, type(None))):
        return value
    try:
        return from_json(to_json(value, bytes_mode="base64", inf_nan_mode="strings"))
    except (PydanticSerializationError, ValueError):
        return value


def _apart(a: Schema, b: Schema) -> bool:
    """Whether what one class dumps never loads as the other: a field the other lacks, or literals that differ."""
    ours, theirs = _fields(a), _fields(b)
    if _required(ours) - theirs.keys() and _required(theirs) - ours.keys():
        return True
    return any(
        ours[name][1] is not None and theirs[name][1] is not None and not set(ours[name][1]) & set(theirs[name][1])
        for name in ours.keys() & theirs.keys()
    )


def _required(fields: dict[str, tuple[bool, Any]]) -> set[str]:
    return {name for name, (required, _) in fields.items() if required}


def _fields(schema: Schema) -> dict[str, tuple[bool, Any]]:
    """Name -> (must it be given, its literal values if it has any) of a class's fields."""
    while "fields" not in schema:
        if "schema" not in schema:
            return {}
        schema = schema["schema"]
    fields = schema["fields"]
    named = fields.items() if isinstance(fields, dict) else ((field["name"], field) for field in fields)
    found: dict[str, tuple[bool, Any]] = {}
    for name, field in named:
        inner = field["schema"]
        required = inner["type"] != "default" and field.get("required", True)
        if inner["type"] == "default":
            inner = inner["schema"]
        found[name] = (required, inner["expected"] if inner["type"] == "literal" else None)
    return found
