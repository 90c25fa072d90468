"""The table "What is there" of docs/migrating-from-kombu.md is neither more nor less than the truth."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "migrating-from-kombu.md"
NAMES = re.compile(r"`([^`]+)`")


def rows() -> list[tuple[list[str], str]]:
    """Per row of the table: kombu's modules, and what is said of them."""
    table = re.findall(r"^\| (`kombu[^|]*) \| (.*) \|$", DOCUMENT.read_text(), re.M)
    return [(NAMES.findall(modules), said) for modules, said in table]


def offered(module: ModuleType) -> set[str]:
    """What a module of kombu offers: its ``__all__``, with the public methods of the classes made there."""
    names = set()
    for name in getattr(module, "__all__", ()):
        thing = getattr(module, name)
        names.add(name)
        if inspect.isclass(thing) and thing.__module__ == module.__name__:
            names |= {f"{name}.{one}" for one, _ in inspect.getmembers(thing, callable) if not one.startswith("_")}
    return names


def has(module: ModuleType, dotted: str) -> bool:
    thing = module
    for part in dotted.split("."):
        if not hasattr(thing, part):
            return False
        thing = getattr(thing, part)
    return True


@pytest.mark.parametrize(("modules", "said"), rows(), ids=lambda value: str(value)[:40])
def test_the_row_is_true(modules: list[str], said: str) -> None:
    """`all`: everything but what is named as missing; names: those; `no`: not even the module."""
    for name in modules:
        ours = name.replace("kombu", "kombu_actors", 1)
        if said.startswith("no"):
            if not name.endswith("*"):
                with pytest.raises(ModuleNotFoundError):
                    importlib.import_module(ours)
            continue
        here = importlib.import_module(ours)
        if said.startswith("all"):
            exceptions = said.partition("but for ")[2]
            named = {one for one in NAMES.findall(exceptions) if not one.startswith("kombu_actors")}
            missing = {one for one in offered(importlib.import_module(name)) if not has(here, one)}
            assert {one for one in missing if not {one, one.partition(".")[0]} & named} == set()
            assert {one for one in named if has(here, one)} == set()
        else:
            theirs = importlib.import_module(name)
            for one in NAMES.findall(said):
                assert has(theirs, one), f"kombu has no {one}"
                assert has(here, one), f"{one} is missing"
