"""What servers say to a user who may not: each of them in its own words."""

from __future__ import annotations

import pytest
from redis import exceptions

from aiojobs_rt.adapters.redis.connection import is_refusal

AT = "script: f7adf048576a96a0bb60ded77199bbcdda591429, on @user_script:1."


@pytest.mark.parametrize(
    "error",
    [
        exceptions.NoPermissionError("this user has no permissions to run the 'zadd' command"),
        exceptions.ResponseError(f"The user executing the script can't run this command or subcommand {AT}"),
        exceptions.ResponseError(f"The user executing the script can't access at least one of the keys {AT}"),
        exceptions.ResponseError(f"ACL failure in script: User poor has no permissions to run the 'zadd' command {AT}"),
        exceptions.ResponseError(f"ACL failure in script: No permissions to access a key {AT}"),
    ],
    ids=["outside of a script", "command, Redis 7.0", "key, Redis 7.0", "command, Valkey 8", "key, Valkey 8"],
)
def test_a_refusal_is_told_from_other_errors(error: Exception) -> None:
    assert is_refusal(error)


def test_another_error_is_no_refusal() -> None:
    assert not is_refusal(exceptions.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"))
