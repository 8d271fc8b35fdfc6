"""A name from the wire is looked up among the job classes, and that is all: nothing is imported, evaluated or unpickled, anywhere in the package."""

from __future__ import annotations

import ast
import random
import sys
from pathlib import Path

import pytest

import aiojobs_rt
from aiojobs_rt import Job
from aiojobs_rt.core import registry
from aiojobs_rt.core.execution import unknown_class
from aiojobs_rt.core.message import MalformedMessage
from aiojobs_rt.core.outcome import Retried
from aiojobs_rt.worker.served import Delivery, Served
from tests.support.recording import runtime

PACKAGE = Path(aiojobs_rt.__file__).parent
NAMES = 100_000
SEED = 20_261_125

DOTTED = (
    "os",
    "system",
    "posix",
    "subprocess",
    "Popen",
    "builtins",
    "eval",
    "antigravity",
    "this",
    "tests",
    "aiojobs_rt",
    "__import__",
    "job",
)
ALPHABETS = (
    "abcXYZ_019",
    "./:\\ -~%$(){}[]'\"`;&|<>*?#!\n\r\t",
    "".join(map(chr, range(32))) + "\x7f\x80\x9f\u202e\ufeff\u2028",
    "äß日本語🙂\u0301\U0010ffff",
)


class Innocent(Job):
    async def perform(self) -> None: ...


def name(draw: random.Random) -> str:
    kind = draw.randrange(6)
    if kind == 0:
        return draw.choice(".:/").join(draw.choices(DOTTED, k=draw.randrange(1, 5)))
    if kind == 1:
        return draw.choice(sorted(sys.modules))
    if kind == 2:
        return f"{draw.choice(DOTTED)}{draw.choice(('()', '.__class__', ';import os', chr(0)))}"
    if kind == 3:
        return "Innocent" + draw.choice((" ", "\0", ".perform", "\u0301", "\n"))
    return "".join(draw.choices(draw.choice(ALPHABETS), k=draw.randrange(60)))


def test_no_name_imports_anything() -> None:
    """100,000 names, from the entry of a stream to what a worker does with it."""
    draw = random.Random(SEED)
    served = Served("default", worker="w", prefix="aiojobs", lease=30.0)
    using = runtime()
    modules = set(sys.modules)
    unknown = malformed = 0
    for number in range(NAMES):
        raw = name(draw).encode()
        fields = [
            b"id",
            b"default.x%d" % number,
            b"job",
            raw,
            b"args",
            b'{"command":"true"}',
            b"meta",
            b'{"v":1,"at":1}',
        ]
        try:
            message = Delivery(served, "", b"1-1", fields, 0.0).read()
        except MalformedMessage:
            malformed += 1
            continue
        assert registry.resolve(message.job) is None
        assert isinstance(unknown_class(message, using), Retried)
        unknown += 1
    assert set(sys.modules) == modules
    assert registry.resolve("Innocent") is Innocent
    assert unknown > NAMES / 2
    assert malformed > NAMES / 10


FORBIDDEN_MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "marshal",
    "shelve",
    "dill",
    "cloudpickle",
    "jsonpickle",
    "yaml",
    "runpy",
    "code",
    "codeop",
    "imp",
}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
IMPORTS_BY_NAME = {"cli/modules.py"}
"""Where a module is imported by its name: one that stands on the command line."""


def offences(source: str, path: str) -> list[str]:
    """What a module does that may turn text into code."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        where = f"{path}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import):
            named = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            named = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Name) and node.id in FORBIDDEN_CALLS:
            found.append(f"{where} {node.id}")
            continue
        elif (
            isinstance(node, ast.Attribute)
            and node.attr in {"import_module", "exec_module", "__import__", "load_module"}
            and path not in IMPORTS_BY_NAME
        ):
            found.append(f"{where} {node.attr}")
            continue
        else:
            continue
        found += [f"{where} {item}" for item in named if item.partition(".")[0] in FORBIDDEN_MODULES]
        if path not in IMPORTS_BY_NAME:
            found += [f"{where} {item}" for item in named if item.endswith((".import_module", ".__import__"))]
    return found


def test_the_package_turns_no_text_into_code() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 50
    found = [line for file in files for line in offences(file.read_text(), file.relative_to(PACKAGE).as_posix())]
    assert not found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import pickle as p",
        "from marshal import loads",
        "eval(text)",
        "run = exec",
        "compile(text, '', 'eval')",
        "__import__(name)",
        "import importlib; importlib.import_module(name)",
        "from importlib import import_module",
        "import importlib.util as u; u.module_from_spec(s).__loader__.exec_module(m)",
    ],
)
def test_the_gate_sees_it(source: str) -> None:
    assert offences(source, "core/registry.py")
    assert not offences("import re; re.compile('x'); connection.execute_command('EVAL')", "core/registry.py")
