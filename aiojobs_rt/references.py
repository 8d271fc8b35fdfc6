"""References: records that travel as `gid://app/User/42` and arrive as fresh objects.

    register_reference(User, identify=lambda user: user.id, locate=find_user)

How they travel and are located is in `aiojobs_rt/core/references.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from aiojobs_rt.core.references import Reference, register
from aiojobs_rt.errors import ConfigurationError
from aiojobs_rt.settings import settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["register_reference"]

T = TypeVar("T")
K = TypeVar("K", int, str)

Found: TypeAlias = Mapping[K, T | None] | Sequence[T | None]


def register_reference(
    kind: type[T],
    *,
    identify: Callable[[T], K],
    locate: Callable[[K], Awaitable[T | None] | T | None] | None = None,
    locate_many: Callable[[list[K]], Found[K, T] | Awaitable[Found[K, T]]] | None = None,
    name: str | None = None,
) -> None:
    """Let records of a class be arguments: they travel as `gid://app/User/42`, and `perform` gets a fresh object.

    To be called in producers and workers, best where the class is defined. A class that pydantic does not know has to be registered before
    the jobs that take it are defined; a model or dataclass travels as a reference from the registration on. Subclasses travel under their own
    name when they are registered, else under that of the nearest base that is. The application's name is the setting `app`.

    Args:
        kind: the class, as parameters are annotated: `User`, `list[User]`, `User | None`, fields of models and dataclasses.
        identify: a record to its id, an int or a str; called when a job is enqueued.
        locate: an id to the record; sync (and then quick: it runs in the event loop) or async. Returns None, or raises LookupError, when
            there is none: that is `RecordNotFound`. Any other error is wrapped in `DeserializationError`, which is retried by default. Async,
            it is called for up to 16 ids of a job at a time. Cancelling the job cancels it.
        locate_many: several ids at once to a mapping by id, or to a sequence with a record or None for each; sync or async. Called
            once for all records of a job, and for a single one when there is no `locate`.
        name: by which the class is known on the wire; default: the class's name.

    Raises:
        ConfigurationError: neither locate nor locate_many is given, another class has this name, or a job that was defined before can't
            take references to it; or `kind` is no class.
    """
    if not isinstance(kind, type):  # pyright: ignore[reportUnnecessaryIsInstance] - what is given, not what is allowed
        raise ConfigurationError(
            f"register_reference takes the class itself, such as register_reference(User, ...), got {kind!r}"
        )
    for what, function in {"identify": identify, "locate": locate, "locate_many": locate_many}.items():
        if function is not None and not callable(function):
            raise ConfigurationError(
                f"register_reference({kind.__name__}, ...): {what} must be a function, such as `lambda user: user.id`, got {function!r}"
            )
    if locate is None and locate_many is None:
        raise ConfigurationError(f"register_reference({kind.__name__}, ...) needs locate, locate_many, or both")
    id_type = None if locate is None else _declared(locate)
    register(Reference(kind, name or kind.__name__, _app, identify, locate, locate_many, id_type))


def _app() -> str:
    return settings().app


def _declared(locate: Callable[..., Any]) -> type[int | str] | None:
    """Whether `locate` declares that it takes int or str."""
    try:
        parameters = list(inspect.signature(locate).parameters.values())
    except (TypeError, ValueError):  # of some builtins
        return None
    annotation = parameters[0].annotation if parameters else None
    return {int: int, "int": int, str: str, "str": str}.get(annotation) if isinstance(annotation, type | str) else None
