"""Importing what the operator names on the command line: modules with job classes, and one job class."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from aiojobs_rt.core import registry
from aiojobs_rt.errors import AiojobsError, ConfigurationError
from aiojobs_rt.job import Job

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

SHOWN_NAMES = 10


def load_modules(names: Iterable[str]) -> None:
    """Import modules, and of a package all modules in it; the current directory is searched first, as with `python -m`.

    Raises:
        ConfigurationError: one can't be imported; says why. For an error inside it, with its traceback.
    """
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    for name in names:
        _load_below(load_module(name))


def _load_below(module: ModuleType) -> None:
    """Import what a package holds, however deep; not `__main__`, which would run."""
    for found in pkgutil.iter_modules(getattr(module, "__path__", ()), f"{module.__name__}."):
        if found.name.rpartition(".")[2] != "__main__":
            _load_below(load_module(found.name))


def load_module(name: str) -> ModuleType:
    """Import one module.

    Raises:
        ConfigurationError: it can't be imported.
    """
    if name.endswith(".py") or "/" in name:
        dotted = name.removesuffix(".py").strip("./").replace("/", ".")
        raise ConfigurationError(f"{name!r} is a path: give the module's name, such as {dotted}")
    try:
        return importlib.import_module(name)
    except AiojobsError as error:  # a job class that is wrong: its message says all
        raise ConfigurationError(f"module {name} can't be imported: {error}") from error
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise ConfigurationError(
                f"there is no module {error.name!r} in {Path.cwd()} or among the installed packages; "
                "name it as in an import, and start in the directory that holds it"
            ) from None
        raise ConfigurationError(
            f"module {name} can't be imported: it needs {error.name!r}, which is missing"
        ) from None
    except SyntaxError as error:
        raise ConfigurationError(
            f"module {name} can't be imported: {error.msg} ({error.filename}, line {error.lineno})"
        ) from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a module raises, it is said
        raise ConfigurationError(
            f"module {name} can't be imported: {type(error).__name__}: {error}\n{_own_trace(error)}"
        ) from None


def find_job(name: str) -> type[Job]:
    """A job class by its name, known once its module is imported, or as `package.module:ClassName`.

    Raises:
        ConfigurationError: there is none.
    """
    known = registry.resolve(name)
    if known is not None:
        return known
    module_name, colon, path = name.partition(":")
    if colon and not (module_name and path):
        raise ConfigurationError(f"{name!r} names no job: write MODULE:CLASS, such as myapp.jobs:SendWelcome")
    if not colon:
        names = [job for job, _ in registry.job_classes()]
        if not names:
            module, _, last = name.rpartition(".")
            raise ConfigurationError(
                f"no job class is loaded: name its module (-m MODULE), or write {module or 'MODULE'}:{last}"
            )
        raise ConfigurationError(f"there is no job named {name!r}; {_listed(names)}")
    found: object = load_module(module_name)
    for part in path.split("."):
        found = getattr(found, part, None)
    if not (isinstance(found, type) and issubclass(found, Job)):
        here = [job.__qualname__ for _, job in registry.job_classes() if job.__module__ == module_name]
        raise ConfigurationError(f"{path!r} in module {module_name} is no job class; {_listed(here)}")
    return found


def _listed(names: list[str]) -> str:
    if not names:
        return "there is none"
    return f"there are: {', '.join(names[:SHOWN_NAMES])}" + (", ..." if len(names) > SHOWN_NAMES else "")


def _own_trace(error: BaseException) -> str:
    """The traceback without the frames of the import machinery and of this module."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and not frame.filename.startswith(("<frozen importlib", importlib.__file__))
    ]
    return "".join(traceback.format_list(frames)).rstrip()
