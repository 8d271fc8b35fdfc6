"""Settings: what the environment says, else a TOML file, else the default.

A variable is named AIOJOBS_RT_ and the field in capitals; for a list, in the singular, as the flag. A key of the file is named as the field.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, SettingsConfigDict

from aiojobs_rt.core.queues import check_weights, read_queues
from aiojobs_rt.errors import ConfigurationError
from aiojobs_rt.settings_file import SettingsFile, read_file

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails
    from pydantic_settings import PydanticBaseSettingsSource

PREFIX = re.compile(r"[A-Za-z0-9_:-]{1,64}")

Prefetch = Literal["auto"] | Annotated[int, Field(ge=0, le=100_000)]
"""How many jobs a worker reads ahead of its free slots; "auto": what they finish in about 50 ms."""


_SHARDS = re.compile(r"\s*([^=\s]+)\s*=\s*([0-9]{1,4})\s*")


def _parse_shards(given: object) -> object:
    """`bulk=8,mail=2` as a mapping."""
    if not isinstance(given, str):
        return given
    found: dict[str, int] = {}
    for item in given.split(",") if given.strip() else ():
        match = _SHARDS.fullmatch(item)
        if match is None:
            raise ValueError("write QUEUE=NUMBER, with commas in between, such as bulk=8,mail=2")
        found[match[1]] = int(match[2])
    return found


def _parse_queues(given: object) -> object:
    """`critical,5 default`, or the same as a list, or a table of weights."""
    if isinstance(given, dict):
        return check_weights(cast("dict[str, object]", given))
    items = given.split() if isinstance(given, str) else given
    return read_queues(cast("list[object]", items)) if isinstance(items, list) else given


def _split(given: object) -> object:
    """Several in one variable are separated by blanks."""
    return given.split() if isinstance(given, str) else given


def _no_if_empty(given: object) -> object:
    """A variable that is empty says no."""
    return False if given == "" else given


YesOrNo = Annotated[bool, BeforeValidator(_no_if_empty)]
Queues = Annotated[list[str] | dict[str, int], BeforeValidator(_parse_queues)]
"""Names in strict order, or names with weights."""


class Settings(BaseSettings):
    """Defaults of adapters and workers. Durations are in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(
        frozen=True, hide_input_in_errors=True, validate_default=True, allow_inf_nan=False, extra="forbid"
    )

    redis_url: SecretStr = Field(default=SecretStr("redis://localhost:6379/0"), description="where jobs are carried")
    prefix: str = Field(default="aiojobs", pattern=f"^{PREFIX.pattern}$", description="what all keys begin with")
    app: str = Field(
        default="app", pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="its name in references, gid://app/..."
    )
    max_payload: int = Field(default=131_072, ge=1, description="largest serialised arguments of a job")
    enqueue_timeout: float = Field(default=10.0, gt=0, description="for how long an enqueue is tried again")
    dead_max_jobs: int = Field(default=10_000, ge=0, description="the dead set's cap")
    dead_max_age: float = Field(default=180 * 86_400.0, gt=0, description="for how long a dead job is kept")
    recent: int = Field(default=1_000, ge=0, description="how many finished jobs are remembered; 0: none")

    shards: Annotated[dict[str, int], BeforeValidator(_parse_shards)] = Field(
        default_factory=dict, description="queues over several streams: QUEUE=NUMBER, with commas in between"
    )
    encryption_keys: SecretStr = Field(
        default=SecretStr(""), description="32 bytes in base64 each, with commas in between; the first one encrypts"
    )
    encrypted: bool = Field(default=False, description="jobs are encrypted whose class does not say otherwise")
    wait_replicas: int = Field(default=0, ge=0, description="an enqueue returns when so many replicas have it")
    wait_timeout: float = Field(default=1.0, gt=0, description="for how long it waits for them")

    concurrency: int = Field(default=100, ge=1, le=100_000, description="how many jobs a worker runs at once")
    prefetch: Prefetch = Field(default="auto", description="how many jobs a worker reads ahead of its free slots")
    lease: float = Field(default=30.0, ge=0.5, description="after so long without a sign a worker counts as dead")
    shutdown_timeout: float = Field(default=25.0, ge=0, description="for how long running jobs may finish at TERM")
    stall_limit: float = Field(
        default=300.0, gt=0, description="a worker whose loop stands still so long gives up its jobs"
    )
    log_level: Literal["debug", "info", "warning", "error", "critical"] = "info"
    log_format: Literal["text", "json"] = "text"

    # of the worker command alone
    modules: Annotated[list[str], BeforeValidator(_split)] = Field(
        default_factory=list, description="those that define the job classes"
    )
    queues: Queues = Field(default_factory=list, description="those to serve; none: all that the job classes name")
    processes: int = Field(default=1, ge=1, le=500, description="how many worker processes run")
    burst: YesOrNo = Field(default=False, description="stop when the queues are drained")
    reload: YesOrNo = Field(default=False, description="start anew when a .py file changes")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - `_variables` knows the names
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - there is none
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - there is none
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is given, else the environment, else the file."""
        return (
            init_settings,
            InitSettingsSource(settings_cls, dict(_variables())),
            InitSettingsSource(settings_cls, dict(_file().values)),
        )


SECRET = ("redis_url", "encryption_keys")
_SINGULAR = {"queues": "QUEUE", "modules": "MODULE"}


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"AIOJOBS_RT_{_SINGULAR.get(name) or name.upper()}"


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once.

    Raises:
        ConfigurationError: the file or a value is wrong; the message names the file or the variable.
    """
    _file.cache_clear()
    try:
        return Settings()
    except ValidationError as error:
        raise ConfigurationError("; ".join(_explain(wrong) for wrong in error.errors())) from None


def place_of(name: str) -> str:
    """Where a setting was set, for messages about it: its variable, or its key and the file."""
    path = _file().path
    if name in _variables() or name not in _file().values or path is None:
        return variable(name)
    return f"{path}: {name}"


def _variables() -> dict[str, str]:
    """The settings that the environment names, in capitals or not."""
    given = {name.upper(): value for name, value in os.environ.items()}
    return {name: given[variable(name)] for name in Settings.model_fields if variable(name) in given}


@lru_cache(maxsize=1)
def _file() -> SettingsFile:
    return read_file(frozenset(Settings.model_fields))


def _explain(wrong: ErrorDetails) -> str:
    name = str(wrong["loc"][0])
    within = f".{wrong['loc'][1]}" if name == "shards" and len(wrong["loc"]) > 1 else ""
    given: Any = wrong["input"]
    return f"{place_of(name)}{within}: {wrong['msg']}" + ("" if name in SECRET else f", got {given!r}")
