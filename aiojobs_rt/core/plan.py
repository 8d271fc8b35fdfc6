"""Plan: what a run needs to know of its job's class, read off the class once, when it is defined, and not once a job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiojobs_rt.core.arguments import Arguments
    from aiojobs_rt.core.hooks import Hooks
    from aiojobs_rt.core.options import Options


@dataclass(frozen=True, slots=True)
class Plan:
    """How jobs of a class are run.

    Attributes:
        options: of the class.
        arguments: perform's; None: not compiled yet.
        hooks: its callbacks; None: it has none.
        log_arguments: each run logs them.
        bare: no code of the class runs when one is made: neither `__new__` nor `__init__` is its own.
        load: for the many classes without any of that: JSON to what perform is called with, `arguments.load_plain`; else None.
    """

    options: Options
    arguments: Arguments | None
    hooks: Hooks | None
    log_arguments: bool
    bare: bool
    load: Callable[[bytes], dict[str, Any]] | None

    @classmethod
    def of(cls, job_class: type[Any], arguments: Arguments | None, hooks: Hooks | None) -> Plan:
        """Read a job class."""
        log_arguments = bool(job_class.log_arguments)
        plain = arguments is not None and arguments.plain and hooks is None and not log_arguments
        return cls(
            options=job_class.options(),
            arguments=arguments,
            hooks=hooks,
            log_arguments=log_arguments,
            bare=all(getattr(job_class, name) is getattr(object, name) for name in ("__new__", "__init__")),
            load=arguments.load_plain if arguments is not None and plain else None,
        )
