"""Secret values: which arguments and results hold a SecretStr, SecretBytes or Secret, and what people see in their place.

A secret travels by value, as `perform` wants it. Which parameters hold one travels in the job's meta, so that whoever shows arguments
without knowing the class (an operator, the command line) shows stars. That a result holds one stands in its record.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from aiojobs_rt.core import wire

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic_core import SchemaSerializer

    from aiojobs_rt.core.shapes import Schema

SECRET = "secret"  # noqa: S105 - a field of meta
STARS = "**********"
NOT_SHOWN = "arguments that can't be shown"


def _stars(_: object) -> str:
    return STARS


_STARRED: Schema = {
    "type": "function-plain",
    "function": _stars,
    "return_schema": {"type": "str"},
    "when_used": "always",
}


def secret_parameters(schema: Schema) -> tuple[str, ...]:
    """The parameters, in a schema of all, that are secret or hold something secret, however deep."""
    whole = schema["schema"] if schema["type"] == "definitions" else schema
    known = _definitions(schema)
    return tuple(name for name, field in whole["fields"].items() if _holds_secret(field, known, set()))


def holds_secret(schema: Schema) -> bool:
    """Whether a value of this schema is secret or holds something secret, however deep."""
    return _holds_secret(schema["schema"] if schema["type"] == "definitions" else schema, _definitions(schema), set())


def shown(schema: Schema) -> SchemaSerializer:
    """A serialiser to JSON for people: secrets are stars, also where a user's own serialiser would tell them; excluded fields are left out."""
    return wire.readable(_without_secrets(schema, _definitions(schema)))


def hidden(raw: bytes, names: Any) -> bytes:
    """Serialised arguments for people who do not know their class.

    Args:
        raw: JSON, by parameter name.
        names: of the parameters that hold secrets, as meta says; all of them, when it says it in no way that is known.
    """
    try:
        fields = json.loads(raw)
        told = without_secrets(fields, names if isinstance(names, list) else fields)
        return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()
    except (ValueError, TypeError, AttributeError, RecursionError):
        return NOT_SHOWN.encode()


def without_secrets(arguments: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Arguments that were read as plain JSON, with stars in the place of these."""
    secret = set(names)
    return {name: STARS if name in secret else value for name, value in arguments.items()}


def _definitions(schema: Schema) -> Mapping[str, Schema]:
    return {one["ref"]: one for one in schema["definitions"]} if schema["type"] == "definitions" else {}


def _holds_secret(schema: Any, known: Mapping[str, Schema], seen: set[str]) -> bool:
    if isinstance(schema, (list, tuple)):
        return any(_holds_secret(item, known, seen) for item in schema)
    if not isinstance(schema, dict):
        return False
    kind = schema.get("type")
    if not isinstance(kind, str):
        return any(_holds_secret(item, known, seen) for item in schema.values())
    if kind == "definition-ref":
        name: str = schema["schema_ref"]
        if name in seen:
            return False
        seen.add(name)
        return _holds_secret(known.get(name), known, seen)
    return wire.is_secret(schema.get("serialization")) or any(
        _holds_secret(schema[key], known, seen) for key in wire.INNER if key in schema
    )


def _without_secrets(schema: Any, known: Mapping[str, Schema]) -> Any:
    """A copy of a core schema in which no serialiser but pydantic's own sees a secret."""
    if isinstance(schema, (list, tuple)):
        return type(schema)(_without_secrets(item, known) for item in schema)
    if not isinstance(schema, dict):
        return schema
    if not isinstance(schema.get("type"), str):
        return {name: _without_secrets(item, known) for name, item in schema.items()}
    copied: Schema = dict(cast("Schema", schema))
    for key in wire.INNER:
        if key in copied:
            copied[key] = _without_secrets(copied[key], known)
    own = copied.get("serialization")
    if own is not None and "function" in own and not wire.is_secret(own) and _holds_secret(schema, known, set()):
        copied["serialization"] = _STARRED
    return copied
