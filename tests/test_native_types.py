"""What type checkers see of ``broker`` and ``aio``: mistakes are found, and nothing that they return is ``Any``."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kombu_actors import aio
from kombu_actors import broker as native
from kombu_actors.broker import Delivered, Subscription

ROOT = Path(__file__).resolve().parents[1]

PROGRAM = """
from kombu_actors.broker import Delivered, ExchangeSpec, OnError, QueueInfo, QueueSpec, open_broker

async def handle(message: Delivered) -> None:
    message.ack(strict=True)
    message.akc()  # wrong
    count: int = message.payload_as(int)
    text: str = message.payload  # wrong

async def main() -> None:
    async with open_broker("memory://") as broker:
        info: QueueInfo = await broker.declare(QueueSpec(name="q", type="quorum", ttl=60))
        info = await broker.declare(ExchangeSpec(name="x"), QueueSpec(name="q"))
        info = await broker.declare(ExchangeSpec(name="x"))  # wrong
        QueueSpec(name="q", type="quorumm")  # wrong
        QueueSpec(name="q", max_lenght=3)  # wrong
        await broker.publish(1, routing_key="q", priority=1, expiration=0.5)
        await broker.publish(1, routing_key="q", prioritty=1)  # wrong
        await broker.publish(1, routing_key="q", priority="high")  # wrong
        await broker.publish_many([1], routing_key="q", prioritty=1)  # wrong
        await broker.request(1, routing_key="q", timout=1)  # wrong
        (await broker.get("q")).ack()  # wrong
        await broker.consume("q", handle, concurrency=3, on_error=OnError.RAISE)
        await broker.consume("q", handle, on_error="reject")  # wrong
        async with broker.subscribe("q", offset="first") as messages:
            async for message in messages:
                fine: bool = message.ack()
        broker.subscribe("q", prefech=3)  # wrong
"""
WRONG = [number for number, line in enumerate(PROGRAM.splitlines(), 1) if line.endswith("# wrong")]


def mypy(tmp_path: Path, *files: Path) -> str:
    """What mypy says of files, in its strict mode."""
    cache = ROOT / ".mypy_cache" / "types"
    return said_by(["mypy", "--strict", "--cache-dir", str(cache), *map(str, files)], tmp_path)


def pyright(tmp_path: Path, *files: Path) -> str:
    """What pyright says of files, by pyright's own rules.

    basedpyright is the same checker, and comes whole; pyright's package fetches it from the net when it first runs.
    """
    project = {"include": [str(file) for file in files], "typeCheckingMode": "standard"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(project))
    return said_by(["basedpyright", "--pythonpath", sys.executable, "--project", str(tmp_path)], tmp_path)


def said_by(command: list[str], directory: Path) -> str:
    """What a module of Python's says, run as a program."""
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=directory, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("door", ["broker", "aio"])
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_a_type_checker_finds_each_mistake_and_nothing_else(
    checker: Callable[..., str], door: str, tmp_path: Path
) -> None:
    """Misspelt names of methods, arguments and properties; values of the wrong type; what may be None."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.replace("kombu_actors.broker", f"kombu_actors.{door}"))
    said = checker(tmp_path, program)
    found = {int(line) for line in re.findall(r"program\.py:(\d+)(?::\d+)?(?: -|:) error", said)}
    assert found == set(WRONG), said


def test_pyright_finds_nothing_in_the_newer_examples(tmp_path: Path) -> None:
    """Nor does mypy, which ``make types`` runs over all of them."""
    examples = [path for kind in ("trio", "aio", "fleet") for path in sorted((ROOT / "examples").glob(f"{kind}_*.py"))]
    assert len(examples) == 13
    assert "0 errors, 0 warnings" in pyright(tmp_path, *examples)


def returned_types() -> Iterator[tuple[str, Any]]:
    """What each public method, property and function of the API returns."""
    for door in (native, aio):
        yield f"{door.__name__}.open_broker", typing.get_type_hints(inspect.unwrap(door.open_broker))["return"]
    for cls in (native.Broker, aio.Broker, Delivered, Subscription):
        for name, member in inspect.getmembers(cls):
            function = member.fget if isinstance(member, property) else member
            if not name.startswith("_") and inspect.isfunction(function):
                yield f"{cls.__module__}.{cls.__name__}.{name}", typing.get_type_hints(function)["return"]


def mentions_any(annotation: Any) -> bool:
    """Whether it is ``Any``, or made of it."""
    return annotation is Any or any(map(mentions_any, typing.get_args(annotation)))


def test_nothing_that_is_returned_is_any() -> None:
    """A checker that sees ``Any`` looks no further."""
    returned = dict(returned_types())
    for door in ("kombu_actors.broker", "kombu_actors.aio"):
        assert {f"{door}.open_broker", f"{door}.Broker.publish", f"{door}.Broker.events"} <= returned.keys()
    assert "kombu_actors._native.delivered.Delivered.payload" in returned
    assert [name for name, annotation in returned.items() if mentions_any(annotation)] == []
