"""Saying what is wrong with arguments: in the words of a call where that is what went wrong, else in pydantic's.

The values themselves are never said: they may be secret, and they may be large.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiojobs_rt.errors import InvalidArguments

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from pydantic_core import ErrorDetails, ValidationError

_SHOWN_ERRORS = 10
_TOLD_ERRORS = 1_000
_SHOWN_NAME = 80
# pydantic quotes the input in these
_REWORDED = {
    "uuid_parsing": "Input should be a valid UUID",
    "union_tag_invalid": "Input tag matches none of the expected tags",
}


def explain(error: ValidationError, *, call: str, keyword_only: Container[str] = ()) -> InvalidArguments:
    """`error` of validating a dict of arguments, as `call`'s TypeError would say it where it can; without the values."""
    if error.error_count() > _TOLD_ERRORS:
        return InvalidArguments(f"{call} got arguments that do not fit: {details(error)}")
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    unexpected = [_name(item) for item in errors if item["type"] == "extra_forbidden" and len(item["loc"]) == 1]
    if unexpected:
        return InvalidArguments(f"{call} got an unexpected keyword argument {unexpected[0]!r}")
    missing = [_name(item) for item in errors if item["type"] == "missing" and len(item["loc"]) == 1]
    if missing:
        return InvalidArguments(f"{call} missing {_missing(missing, keyword_only)}")
    return InvalidArguments(f"{call} got arguments that do not fit: {details(error)}")


def details(error: ValidationError) -> str:
    """The location, message and type that pydantic gives for the first errors, without the values."""
    if error.error_count() > _TOLD_ERRORS:  # pydantic can only tell all of them, at 4 us each
        return f"{error.error_count()} values are wrong"
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    said = [_detail(item) for item in errors[:_SHOWN_ERRORS]]
    if len(errors) > len(said):
        said.append(f"and {len(errors) - len(said)} more")
    return "; ".join(said)


def quoted(names: Sequence[str]) -> str:
    """'a', 'b' and 'c'."""
    *first, last = map(repr, names)
    return f"{', '.join(first)} and {last}" if first else last


def shown(name: object) -> str:
    """A name that may come from anybody, fit for a line of a log."""
    text = str(name).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _SHOWN_NAME else f"{text[:_SHOWN_NAME]}..."


def count(number: int, what: str) -> str:
    """1 argument, 2 arguments."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _missing(names: list[str], keyword_only: Container[str]) -> str:
    positional = [name for name in names if name not in keyword_only]
    if positional:
        return f"{count(len(positional), 'required positional argument')}: {quoted(positional)}"
    return f"{count(len(names), 'required keyword-only argument')}: {quoted(names)}"


def _name(item: ErrorDetails) -> str:
    return shown(item["loc"][0])


def _detail(item: ErrorDetails) -> str:
    kind = item["type"]
    location: Any = ".".join(shown(part) for part in item["loc"][:6]) + ("..." if len(item["loc"]) > 6 else "")
    message = f"{_REWORDED.get(kind, item['msg'])} ({kind})"
    return f"{location}: {message}" if location else message
