"""Settings: what the environment says, each variable named AIOJOBS_RT_ and the field in capitals."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from aiojobs_rt.errors import ConfigurationError

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


class Settings(BaseSettings):
    """Defaults of adapters and workers. Durations are in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(
        env_prefix="AIOJOBS_RT_", frozen=True, hide_input_in_errors=True, validate_default=True, allow_inf_nan=False
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

    shards: Annotated[dict[str, int], NoDecode, BeforeValidator(_parse_shards)] = Field(
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


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once.

    Raises:
        ConfigurationError: a variable is wrong; the message names it.
    """
    try:
        return Settings()
    except ValidationError as error:
        lines = "; ".join(
            f"AIOJOBS_RT_{str(e['loc'][0]).upper()}: {e['msg']}"
            + ("" if e["loc"][0] in ("redis_url", "encryption_keys") else f", got {e['input']!r}")
            for e in error.errors()
        )
        raise ConfigurationError(lines) from None
