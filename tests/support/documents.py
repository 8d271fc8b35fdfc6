"""Runs the Python examples of one document: `python -m tests.support.documents FILE.md`, in an empty directory.

What a document may rely on:

* Its ```python blocks run in order, statement by statement, in one namespace, inside a running loop. `await` may stand at the top level.
* A statement that awaits finds a worker of all job classes so far, on the Redis of AIOJOBS_RT_REDIS_URL.
* `# -> 42` after an expression: its repr, in which "…" stands for anything. `# -> raises ValueError` after a statement: it must.
* A block whose first line is `# name.py` is saved under that name instead; a block imports it, or a shell block runs it.
* `<!-- not run: reason -->` above a block: it is not run; test_docs.py prints the reason.

At the end no job may have failed with an error that says that the example itself is wrong.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import anyio
import orjson
import redis

from aiojobs_rt import RedisAdapter, Worker
from aiojobs_rt.adapters.default import default_adapter
from aiojobs_rt.core import registry
from aiojobs_rt.settings import settings
from tests.support.acl import as_default
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<language>[a-z]*)[^`\n]*$")
FILE = re.compile(r"# (?P<name>[a-z_]+\.py)\n")
NOT_RUN = re.compile(r"<!-- not run: (?P<reason>.+) -->")
EXPECTED = re.compile(r"# -> (?P<what>.+)$")
ANY_NOT_RUN = re.compile(r"<!--\s*not[ -]run", re.IGNORECASE)
FAULTS = {
    "NameError",
    "UnboundLocalError",
    "AttributeError",
    "ImportError",
    "ModuleNotFoundError",
    "InvalidArguments",
    "UnknownJob",
}
"""Errors of a job that come from a wrong example."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a document.

    Attributes:
        language: what stands after the fence; may be empty.
        code: what is between the fences.
        line: of its first line of code, from 1.
        not_run: why it is not run; empty: it is.
    """

    language: str
    code: str
    line: int
    not_run: str

    @property
    def file(self) -> str:
        """The name under which it is to be saved, if any."""
        match = FILE.match(self.code)
        return match["name"] if match else ""


def blocks_of(text: str) -> Iterator[Block]:
    """All fenced blocks, in order."""
    lines = text.splitlines()
    at, above = 0, ""
    while at < len(lines):
        fence = FENCE.match(lines[at])
        if fence is None:
            above = lines[at] if lines[at].strip() else above
            at += 1
            continue
        start, indent = at + 1, len(fence["indent"])
        at = start
        while lines[at].strip() != fence["ticks"]:
            at += 1
        mark = NOT_RUN.fullmatch(above.strip())
        code = "".join(line[indent:] + "\n" for line in lines[start:at])
        yield Block(fence["language"], code, start + 1, mark["reason"] if mark else "")
        at, above = at + 1, ""


def save_files(blocks: list[Block]) -> None:
    """Write the blocks that are files into the working directory."""
    for block in blocks:
        if block.file:
            Path(block.file).write_text(block.code)


class Document:
    """A document while it runs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._blocks = list(blocks_of(path.read_text()))
        save_files(self._blocks)
        self._module = ModuleType("document")
        self._module.__file__ = str(path)
        sys.modules["document"] = self._module
        self._worker: Worker | None = None
        self._served: list[type[Any]] = []
        self._running: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Run all Python blocks."""
        try:
            for block in self._blocks:
                if block.language == "python" and not block.not_run and not block.file:
                    await self._run(block)
            await self._check_jobs()
        finally:
            await self._stop()

    async def _run(self, block: Block) -> None:
        source = "\n" * (block.line - 1) + block.code  # so that a traceback points into the document
        lines = source.splitlines()
        for statement in ast.parse(source).body:
            comments = (EXPECTED.search(lines[line - 1]) for line in {statement.lineno, statement.end_lineno or 0})
            expected = [match["what"] for match in comments if match]
            await self._execute(statement, expected[0] if expected else "")

    async def _execute(self, statement: ast.stmt, expected: str) -> None:
        where = f"{self._path.name}:{statement.lineno}"
        body: Any = ast.Expression(statement.value) if isinstance(statement, ast.Expr) else ast.Module([statement], [])
        mode = "eval" if isinstance(statement, ast.Expr) else "exec"
        code = compile(body, str(self._path), mode, flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        awaits = bool(code.co_flags & inspect.CO_COROUTINE)
        if awaits:
            await self._serve()
        raises = expected.removeprefix("raises ") if expected.startswith("raises ") else ""
        try:
            value = eval(code, self._module.__dict__)  # noqa: S307 - the project's own documents
            if awaits:
                value = await value
        except Exception as error:
            if type(error).__name__ != raises:
                raise
            return
        assert not raises, f"{where}: did not raise {raises}"
        if expected:
            assert isinstance(statement, ast.Expr), f"{where}: only an expression has a value to be shown"
            pattern = ".*".join(re.escape(part) for part in expected.split("…"))
            assert re.fullmatch(pattern, repr(value), re.DOTALL), (
                f"{where}: gave {value!r}, the document says {expected}"
            )

    # -- its worker ------------------------------------------------------------------------------

    async def _serve(self) -> None:
        """See to it that a worker knows all classes so far."""
        classes = [job_class for _, job_class in registry.job_classes()]
        if not classes or classes == self._served:
            return
        await self._stop()
        adapter = default_adapter()
        assert isinstance(adapter, RedisAdapter)
        self._worker, self._served = Worker(adapter=adapter, shutdown_timeout=5), classes
        started = _Started()
        self._running = asyncio.create_task(self._worker.run(task_status=started))
        wait = asyncio.create_task(started.wait())
        await asyncio.wait([wait, self._running], return_when=asyncio.FIRST_COMPLETED)
        wait.cancel()
        if self._running.done():
            self._running.result()

    async def _stop(self) -> None:
        if self._worker is not None and self._running is not None:
            self._worker.stop()
            await self._running
            self._worker = self._running = None

    async def _check_jobs(self) -> None:
        """Every job that a worker could run has run, and none has failed because the example is wrong."""
        if self._worker is None:
            return
        prefix = settings().prefix
        streams = [f"{prefix}:{{{queue}}}:stream" for queue in self._worker.queues]
        with redis.Redis.from_url(as_default(settings().redis_url.get_secret_value())) as client:
            await wait_until(
                lambda: not any(client.xlen(stream) for stream in streams), what="the document's jobs to be run"
            )
            keys = list(client.scan_iter(match=f"{prefix}:*:errors:*"))
            records = [orjson.loads(record) for key in keys for record in client.lrange(key, 0, -1)]
        wrong = [record for record in records if record["error"] in FAULTS]
        assert not wrong, "jobs of the document failed:\n" + "\n".join(record["traceback"] for record in wrong)


class _Started(asyncio.Event):
    """Set when the worker works: what `Worker.run` calls as its `task_status`."""

    def started(self, value: object = None) -> None:
        self.set()


if __name__ == "__main__":
    anyio.run(Document(Path(sys.argv[1])).run)
