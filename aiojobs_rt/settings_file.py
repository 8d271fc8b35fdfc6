"""The file of settings, in TOML: the one that AIOJOBS_RT_CONFIG names, else `aiojobs_rt.toml` in the current directory, if it is there."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from aiojobs_rt.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection

VARIABLE = "AIOJOBS_RT_CONFIG"
USUAL = "aiojobs_rt.toml"


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """What was read.

    Attributes:
        path: which file; None: there is none.
        values: by the names of settings; not checked.
    """

    path: Path | None = None
    values: dict[str, object] = field(default_factory=dict[str, object])


def read_file(known: Collection[str]) -> SettingsFile:
    """Read the file, if there is one.

    Args:
        known: the names that it may hold.

    Raises:
        ConfigurationError: the one that is named is not there; it can't be read, is no TOML, or holds a name that is not known. No value is shown.
    """
    named = os.environ.get(VARIABLE)
    path = Path(named or USUAL)
    if not named and not os.path.exists(path):  # noqa: PTH110 - False, too, where one may not look
        return SettingsFile()
    path = path.absolute()
    try:
        values = tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError:
        raise ConfigurationError(
            f"there is no settings file {path}: correct --config, or {VARIABLE}, or leave it out"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"the settings file {path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"the settings file {path} is not in UTF-8 (at line {line})") from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"the settings file {path} is no TOML: {error}") from None
    for name, value in values.items():
        if name not in known:
            raise ConfigurationError(f"{path}: {_unknown(name, value, known)}")
    return SettingsFile(path, values)


def _unknown(name: str, value: object, known: Collection[str]) -> str:
    if isinstance(value, dict) and any(key in known for key in value):
        return f"settings stand at the top of the file, not in a table [{name}]"
    close = get_close_matches(name.lower().replace("-", "_"), sorted(known), n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(sorted(known))}"
    return f"there is no setting {name!r}; {hint}"
