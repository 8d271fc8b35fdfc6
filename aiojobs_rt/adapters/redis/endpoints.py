"""Which endpoint a URL is: by its scheme, one server, Sentinels or a cluster."""

from __future__ import annotations

from aiojobs_rt.adapters.redis.cluster import ClusterEndpoint
from aiojobs_rt.adapters.redis.endpoint import Endpoint
from aiojobs_rt.adapters.redis.sentinel import SentinelEndpoint


def endpoint_of(url: str) -> Endpoint:
    """The endpoint of a URL, by its scheme.

    Raises:
        ConfigurationError: the URL is wrong.
    """
    scheme = url.partition("://")[0] if isinstance(url, str) else ""  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
    if scheme in ("redis+sentinel", "rediss+sentinel"):
        return SentinelEndpoint(url)
    if scheme in ("redis+cluster", "rediss+cluster"):
        return ClusterEndpoint(url)
    return Endpoint(url)
