from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from aiojobs_rt import DuplicateJob, Job
from aiojobs_rt.core import registry

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = """
from aiojobs_rt import Job

class Twin(Job):
    async def perform(self) -> None: ...
"""


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Run a source as a module of a name and a file, as an import would."""

    def run(name: str, *, file: str | None = "jobs.py", source: str = SOURCE) -> type[Job]:
        module = ModuleType(name)
        if file is not None:
            module.__file__ = str(tmp_path / file)
        monkeypatch.setitem(sys.modules, name, module)
        exec(source, module.__dict__)  # noqa: S102 - a module's source
        found: type[Job] = module.__dict__["Twin"]
        return found

    return run


def test_a_class_is_found_by_its_name_and_nothing_else_is() -> None:
    class Known(Job):
        async def perform(self) -> None: ...

    assert registry.resolve("Known") is Known
    assert registry.resolve("known") is None
    assert registry.resolve("os.system") is None
    assert ("Known", Known) in list(registry.job_classes())
    names = [name for name, _ in registry.job_classes()]
    assert names == sorted(names)


def test_a_second_class_of_a_name_is_refused_naming_both(modules: Any) -> None:
    first = modules("one", file="one.py")
    with pytest.raises(DuplicateJob, match=r"'Twin' is taken by one\.Twin; give two\.Twin a name of its own: name = "):
        modules("two", file="two.py")
    assert registry.resolve("Twin") is first


def test_a_name_of_its_own_is_compared_too(modules: Any) -> None:
    modules("one", file="one.py")
    source = SOURCE.replace("class Twin(Job):", "class Other(Job):\n    name = 'Twin'")
    with pytest.raises(DuplicateJob, match=r"give one\.Other a name of its own"):
        modules("one", file="one.py", source=source)


def test_a_reloaded_module_replaces_its_classes(modules: Any) -> None:
    modules("one")
    again = modules("one")
    assert registry.resolve("Twin") is again


def test_a_module_may_be_imported_beside_itself_as_main(modules: Any) -> None:
    modules("__main__", file="jobs.py")
    imported = modules("myapp.jobs", file="jobs.py")
    assert registry.resolve("Twin") is imported
    again = modules("__main__", file="jobs.py")
    assert registry.resolve("Twin") is again


def test_main_is_no_twin_of_another_file(modules: Any) -> None:
    modules("__main__", file="manage.py")
    with pytest.raises(DuplicateJob):
        modules("myapp.jobs", file="jobs.py")


def test_main_without_a_file_is_nobodys_twin(modules: Any) -> None:
    modules("__main__", file=None)
    with pytest.raises(DuplicateJob):
        modules("myapp.jobs", file=None)


def test_local_classes_of_a_name_make_way_for_each_other() -> None:
    def one() -> type[Job]:
        class Local(Job):
            async def perform(self) -> None: ...

        return Local

    def two() -> type[Job]:
        class Local(Job):
            async def perform(self) -> None: ...

        return Local

    assert registry.resolve("Local") is None
    first = one()
    assert registry.resolve("Local") is first
    second = two()
    assert registry.resolve("Local") is second
    assert one() is registry.resolve("Local")


def test_a_local_class_makes_way_for_a_modules_but_does_not_take_its_name(modules: Any) -> None:
    def local() -> type[Job]:
        class Twin(Job):
            async def perform(self) -> None: ...

        return Twin

    local()
    real = modules("one")
    assert registry.resolve("Twin") is real
    with pytest.raises(DuplicateJob, match=r"taken by one\.Twin"):
        local()
