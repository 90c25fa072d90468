"""The programs of kombu's user guide, told in our words, do on kombu_actors what they do on kombu.

They are written for kombu, as their users' are; ``kombu_actors.migrate`` rewrites them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import attrs
import pytest

from kombu_actors.migrate.command import main

ROOT = Path(__file__).parents[2]
TIMEOUT = 120
"""Seconds for all programs together; they take a few on an idle machine."""


@attrs.frozen
class Program:
    """One of them, and what its docstring says of it."""

    path: Path
    prints: str
    alone: bool
    brokers: frozenset[str]
    kombu_hangs: str

    @classmethod
    def read(cls, path: Path) -> Program:
        docstring = path.read_text().split('"""')[1].encode().decode("unicode_escape")
        head, _, prints = docstring.partition("Prints:\n")
        named = re.search(r"^Brokers: (.*)$", head, re.M)
        brokers = frozenset(named[1].split(", ") if named else ("memory", "amqp", "redis"))
        hangs = re.search(r"^Kombu hangs: on (\w+)", head, re.M)
        return cls(path, dedent(prints), "\nAlone:" in head, brokers, hangs[1] if hangs else "")


PROGRAMS = [Program.read(path) for path in sorted((Path(__file__).parent / "programs").glob("*.py"))]


def run(paths: list[Path], url: str) -> dict[str, str]:
    """What each printed, all run in one process."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.guide.running", url, *map(str, paths)],
        cwd=ROOT,
        env={**os.environ, "EVENTLET_NO_GREENDNS": "yes"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    printed: dict[str, str] = json.loads(done.stdout)
    return printed


@pytest.fixture(params=["memory", "amqp", "redis"])
def broker(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Its kind and URL."""
    kind = request.param
    if kind == "memory":
        return kind, "memory://guide"
    return kind, request.getfixturevalue({"amqp": "amqp_url", "redis": "redis_url"}[kind])


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Program], Path]:
    """Moves a program to kombu_actors; where it is then."""
    folder = tmp_path_factory.mktemp("moved")

    def move(program: Program) -> Path:
        path = folder / program.path.name
        shutil.copy(program.path, path)
        assert main([str(path), "--rewrite", "--yes"]) == 0
        return path

    return move


def printed(found: list[Program], url: str, where: Callable[[Program], Path]) -> dict[str, str]:
    """What all of them printed, each in such a process as it needs."""
    results = run([where(program) for program in found if not program.alone], url)
    for program in found:
        if program.alone:
            results |= run([where(program)], url)
    return results


def test_the_guides_programs_print_the_same_on_kombu_actors(
    broker: tuple[str, str], moved: Callable[[Program], Path]
) -> None:
    """With no change but their imports, on every broker."""
    kind, url = broker
    found = [program for program in PROGRAMS if kind in program.brokers]
    assert printed(found, url, moved) == {program.path.stem: program.prints for program in found}


def test_the_guides_programs_are_programs_of_kombu(broker: tuple[str, str]) -> None:
    """Stock kombu prints what they say."""
    kind, url = broker
    found = [program for program in PROGRAMS if kind in program.brokers and kind != program.kombu_hangs]
    assert printed(found, url, lambda program: program.path) == {program.path.stem: program.prints for program in found}
