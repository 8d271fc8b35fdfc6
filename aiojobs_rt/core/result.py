"""The result of a job on its way back from `perform` to whoever waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic.errors import PydanticUserError
from pydantic_core import PydanticSerializationError, SchemaError, ValidationError

from aiojobs_rt.core import wire
from aiojobs_rt.core.annotations import describe, resolve, schema_of
from aiojobs_rt.core.bounds import MAX_DEPTH, deeper
from aiojobs_rt.core.explanation import details
from aiojobs_rt.core.secret_values import holds_secret
from aiojobs_rt.errors import InvalidJob, InvalidResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiojobs_rt.core.shapes import Schema

_NO_SCHEMA = (PydanticUserError, SchemaError, TypeError)
_UNDUMPABLE = (PydanticSerializationError, UnicodeError, RecursionError)


class Result:
    """What a job's perform returns, compiled from its return annotation.

    Without an annotation, or with `Any`, a result is plain JSON: a tuple arrives as a list.

    Attributes:
        secret: it holds a SecretStr, SecretBytes or Secret: people see stars in its place.
    """

    __slots__ = ("_job", "_load", "_to_json", "_validate", "secret")

    def __init__(self, job: str, schema: Schema) -> None:
        """Use `of`."""
        self._job = job
        self.secret = holds_secret(schema)
        self._validate = wire.incoming(schema).validate_python
        serialiser, validator = wire.travelling(schema)
        self._to_json = serialiser.to_json
        self._load = validator.validate_json

    @classmethod
    def of(
        cls,
        function: Callable[..., Any],
        *,
        job: str,
        local_names: Mapping[str, Any] | None = None,
        type_arguments: Mapping[Any, Any] | None = None,
    ) -> Result:
        """Compile the return annotation of `function`; the arguments are as for `Arguments.of`.

        Raises:
            Unresolved: the annotation names something that is not defined yet.
            InvalidJob: pydantic has no schema for the annotation.
        """
        hints = resolve(function, job=job, local_names=local_names, type_arguments=type_arguments)
        annotation = hints.get("return", Any)
        try:
            return cls(job, schema_of(annotation, local_names))
        except _NO_SCHEMA as error:
            raise InvalidJob(
                f"{job}.{function.__name__}(): its result, {describe(annotation)}, can't travel as JSON: {error}"
            ) from error

    def dump(self, value: Any) -> bytes:
        """A result as JSON, validated first.

        Raises:
            InvalidResult: it does not fit the annotation, or has no JSON.
        """
        try:
            raw = self._to_json(self._validate(value), round_trip=True, warnings=False)
        except ValidationError as error:
            raise InvalidResult(
                f"{self._job}: its result does not fit the annotation of what perform returns: {details(error)}"
            ) from None
        except _UNDUMPABLE as error:
            raise InvalidResult(f"{self._job}: its result can't be written as JSON: {error}") from None
        if len(raw) > 2 * MAX_DEPTH and deeper(raw, MAX_DEPTH):
            raise InvalidResult(f"{self._job}: its result is nested deeper than {MAX_DEPTH} levels")
        return raw

    def load(self, raw: bytes) -> Any:
        """The result that JSON bytes stand for.

        Raises:
            InvalidResult: they are no JSON, or do not fit the annotation.
        """
        try:
            return self._load(raw)
        except ValidationError as error:
            raise InvalidResult(
                f"{self._job}: its result, as kept, does not fit the annotation of what perform returns here: {details(error)}; "
                "the worker's class may be another version: JobHandle.of(job_id) gives the result as plain JSON"
            ) from None
