"""`generate job`: a job class in a module of its own, and a test of it that passes. `generate key`: a key for encrypted jobs."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Annotated

import typer

from aiojobs_rt.cli.modules import find_job, load_modules
from aiojobs_rt.cli.options import optional_queue
from aiojobs_rt.core.cipher import AesGcmCipher
from aiojobs_rt.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

app = typer.Typer(help="Write the files of a new job; make a key.", no_args_is_help=True)

JOB = Template('''\
"""$title."""

from $parent_module import $parent


class $name($parent):
    """$title. Run it twice and the effect should be that of once: a job runs at least once."""
$queue
    async def perform(self) -> None:
        self.logger.info("$title")
''')

TEST = Template('''\
"""$name, without a worker and without Redis."""

import asyncio

from $module import $name


def test_it_performs() -> None:
    assert asyncio.run($name.perform_now()) is None
''')

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_PACKAGE = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)*", re.IGNORECASE)


@app.callback()
def _generate() -> None:
    pass


@app.command()
def job(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Such as process_image, or ProcessImageJob.")],
    *,
    queue: Annotated[
        str | None,
        typer.Option("--queue", "-q", callback=optional_queue, metavar="NAME", help="The queue of its jobs."),
    ] = None,
    parent: Annotated[
        str, typer.Option(metavar="MODULE:CLASS", help="The class that it derives from.")
    ] = "aiojobs_rt:Job",
    package: Annotated[str, typer.Option(metavar="PACKAGE", help="The package of jobs that it goes into.")] = "jobs",
    tests: Annotated[Path, typer.Option(metavar="DIR", help="Where its test goes.")] = Path("tests"),
) -> None:
    """Write a job and its test; refuses to touch what is there."""
    stem, class_name = _names(name)
    if not _PACKAGE.fullmatch(package):
        raise typer.BadParameter(f"{package!r} is no package: write it as in an import, such as myapp.jobs")
    parent_module, _, parent_name = parent.partition(":")
    load_modules(())
    if parent != "aiojobs_rt:Job":
        if not parent_name:
            raise typer.BadParameter(
                f"{parent!r} names no class: write MODULE:CLASS, such as myapp.base:ApplicationJob"
            )
        find_job(parent)
    folder = Path(*package.split("."))
    module, test = folder / f"{stem}.py", tests / f"test_{stem}.py"
    _refuse_collisions(class_name, folder, (module, test))
    names = {
        "name": class_name,
        "title": stem.removesuffix("_job").replace("_", " ").capitalize(),
        "module": f"{package}.{stem}",
        "parent": parent_name,
        "parent_module": parent_module,
        "queue": f'\n    queue = "{queue}"\n' if queue else "",
    }
    for path in (*_inits(folder), module, test):
        path.parent.mkdir(parents=True, exist_ok=True)
        text = JOB if path == module else TEST if path == test else Template("")
        path.write_text(text.substitute(names))
        print(f"created {path}")
    print(f"run the test: python -m pytest {test}")
    print(f"run its jobs: python -m aiojobs_rt worker {package}")


@app.command()
def key() -> None:
    """Print a new key for AIOJOBS_RT_ENCRYPTION_KEYS."""
    print(AesGcmCipher.generate_key())


def _names(name: str) -> tuple[str, str]:
    """The module's name and the class's: singular, and ending in job."""
    words = [word.lower() for word in _WORD.findall(name)]
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or not words:
        raise typer.BadParameter(f"{name!r} is no name for a job: write it as process_image, or ProcessImageJob")
    if words[-1] == "jobs":
        raise typer.BadParameter(f"a job class is one job, in the singular: {'_'.join([*words[:-1], 'job'])}")
    if words[-1] != "job":
        words.append("job")
    if len(words) == 1:
        raise typer.BadParameter(f"{name!r} says nothing of what the job does: write it as process_image")
    return "_".join(words), "".join(word.capitalize() for word in words)


def _refuse_collisions(class_name: str, folder: Path, paths: Iterable[Path]) -> None:
    for path in paths:
        if path.exists():
            raise ConfigurationError(f"{path} is there already; nothing was written")
    defined = re.compile(rf"^class {class_name}\b", re.MULTILINE)
    for path in sorted(folder.rglob("*.py")):
        if defined.search(path.read_text(errors="replace")):
            raise ConfigurationError(f"{path} defines a class {class_name} already; nothing was written")


def _inits(folder: Path) -> list[Path]:
    """What makes the folder a package, as far as it is not there."""
    packages = [folder, *[parent for parent in folder.parents if parent != Path()]]
    return [init for init in (package / "__init__.py" for package in reversed(packages)) if not init.exists()]
