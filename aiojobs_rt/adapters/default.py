"""The default adapter: Redis at the setting `redis_url`, made at first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiojobs_rt.settings import settings

if TYPE_CHECKING:
    from aiojobs_rt.adapters.base import Adapter
    from aiojobs_rt.job import Job

_default_adapters: dict[str, Adapter] = {}


def default_adapter() -> Adapter:
    """The adapter of job classes that name none: Redis at the setting `redis_url`; one object per URL.

    Raises:
        ConfigurationError: the URL is wrong.
    """
    url = settings().redis_url.get_secret_value()
    adapter = _default_adapters.get(url)
    if adapter is None:
        from aiojobs_rt.adapters.redis.adapter import RedisAdapter  # noqa: PLC0415 - loaded at first use

        adapter = _default_adapters[url] = RedisAdapter(url)
    return adapter


def adapter_of(job_class: type[Job]) -> Adapter:
    """The adapter that carries jobs of this class: its own, else the default one."""
    return job_class.adapter or default_adapter()
