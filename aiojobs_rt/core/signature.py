"""The parameters of perform by kind: a call's arguments to a dict by parameter name, and back to a call.

`*args` stands in the dict as a list and `**kwargs` as a dict, each under its own name. Errors are in the words of
Python's own TypeError. Types are not looked at here.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiojobs_rt.core.explanation import count, shown
from aiojobs_rt.errors import InvalidArguments

if TYPE_CHECKING:
    from collections.abc import Sequence

_Parameter = inspect.Parameter
_BY_POSITION = (_Parameter.POSITIONAL_ONLY, _Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature, sorted for binding.

    Attributes:
        call: how messages name the call, such as "SendWelcome.perform()".
        receiver: the name of self, which no keyword argument may take; None when there is none, or it is positional-only.
        names: all parameters, in order.
        positional: those that may be given by position, positional-only ones first.
        positional_only: how many of them can't be given by keyword.
        by_keyword: those that may be given by keyword.
        keyword_only: those that must be.
        required: those without a default, in order.
        var_positional: the name of *args; None when there is none.
        var_keyword: the name of **kwargs; None when there is none.
        defaults: by name.
    """

    call: str
    receiver: str | None
    names: tuple[str, ...]
    positional: tuple[str, ...]
    positional_only: int
    by_keyword: frozenset[str]
    keyword_only: frozenset[str]
    required: tuple[str, ...]
    var_positional: str | None
    var_keyword: str | None
    defaults: dict[str, Any]

    @classmethod
    def of(cls, parameters: Sequence[inspect.Parameter], *, call: str, skip_first: bool) -> Signature:
        """Sort the parameters; `skip_first` takes the first positional one for self."""
        receiver = None
        if skip_first and parameters and parameters[0].kind in _BY_POSITION:
            first, *parameters = parameters
            receiver = None if first.kind is _Parameter.POSITIONAL_ONLY else first.name

        def named(*kinds: Any) -> tuple[str, ...]:
            return tuple(parameter.name for parameter in parameters if parameter.kind in kinds)

        return cls(
            call=call,
            receiver=receiver,
            names=tuple(parameter.name for parameter in parameters),
            positional=named(*_BY_POSITION),
            positional_only=len(named(_Parameter.POSITIONAL_ONLY)),
            by_keyword=frozenset(named(_Parameter.POSITIONAL_OR_KEYWORD, _Parameter.KEYWORD_ONLY)),
            keyword_only=frozenset(named(_Parameter.KEYWORD_ONLY)),
            required=tuple(
                parameter.name
                for parameter in parameters
                if parameter.default is _Parameter.empty
                and parameter.kind not in (_Parameter.VAR_POSITIONAL, _Parameter.VAR_KEYWORD)
            ),
            var_positional=next(iter(named(_Parameter.VAR_POSITIONAL)), None),
            var_keyword=next(iter(named(_Parameter.VAR_KEYWORD)), None),
            defaults={p.name: p.default for p in parameters if p.default is not _Parameter.empty},
        )

    @property
    def plain(self) -> bool:
        """Whether a dict by parameter name is a call's keyword arguments as it stands."""
        return not self.positional_only and self.var_positional is None and self.var_keyword is None

    def by_name(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a call by parameter name; what is missing is not looked for.

        Raises:
            InvalidArguments: too many, given twice, or under a name that no parameter has.
        """
        given = dict(zip(self.positional, args, strict=False))
        if len(args) > len(self.positional):
            if self.var_positional is None:
                raise InvalidArguments(f"{self.call} takes {self._takes()} but {len(args)} {_were(len(args))} given")
            given[self.var_positional] = list(args[len(self.positional) :])
        more: dict[str, Any] = {}
        for name, value in kwargs.items():
            if name in given and name in self.by_keyword:
                raise self._twice(name)
            if name in self.by_keyword:
                given[name] = value
            else:
                self._check_further(name)
                more[name] = value
        if more and self.var_keyword is not None:
            given[self.var_keyword] = more
        return given

    def to_call(self, values: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The call that values by parameter name stand for; takes the dict over. What is not given is left to the defaults.

        Raises:
            InvalidArguments: **kwargs holds the name of a parameter, which no call can have made.
        """
        rest: list[Any] = values.pop(self.var_positional, []) if self.var_positional else []
        more: dict[str, Any] = values.pop(self.var_keyword, {}) if self.var_keyword else {}
        for name in more:
            if name in self.by_keyword or name == self.receiver:
                raise self._twice(name)
        # What precedes *args goes by position with it; so does what precedes a positional-only parameter.
        until = len(self.positional) if rest else self.positional_only
        while until and not rest and self.positional[until - 1] not in values:
            until -= 1
        args = [values.pop(name) if name in values else self.defaults[name] for name in self.positional[:until]]
        return (*args, *rest), values | more

    def _check_further(self, name: str) -> None:
        """Raise unless **kwargs may hold this name."""
        if name == self.receiver:
            raise self._twice(name)
        if self.var_keyword is not None:
            return
        if name in self.positional:
            raise InvalidArguments(
                f"{self.call} got some positional-only arguments passed as keyword arguments: {shown(name)!r}"
            )
        raise InvalidArguments(f"{self.call} got an unexpected keyword argument {shown(name)!r}")

    def _twice(self, name: str) -> InvalidArguments:
        return InvalidArguments(f"{self.call} got multiple values for argument {shown(name)!r}")

    def _takes(self) -> str:
        least = sum(name not in self.defaults for name in self.positional)
        if least == len(self.positional):
            return count(least, "positional argument")
        return f"from {least} to {count(len(self.positional), 'positional argument')}"


def _were(number: int) -> str:
    return "was" if number == 1 else "were"
