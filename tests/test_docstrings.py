"""Every public name says what it is for: modules, classes, functions, methods, properties, exceptions."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.imports import PACKAGE, source_modules


def is_public(module: str) -> bool:
    return not any(part.startswith("_") for part in module.split("."))


MODULES = [module for module in source_modules() if is_public(module) and not module.endswith(".celery.installed")]


def is_ours(thing: Any) -> bool:
    return str(getattr(thing, "__module__", "")).split(".")[0] == PACKAGE


def offered(module: Any) -> Iterator[tuple[str, Any]]:
    """A module's public classes and functions: its ``__all__``, or what it defines itself without underscore."""
    names = getattr(module, "__all__", None)
    if names is None:
        names = [
            name
            for name, thing in vars(module).items()
            if not name.startswith("_") and getattr(thing, "__module__", None) == module.__name__
        ]
    for name in names:
        thing = getattr(module, name)
        if is_ours(thing) and (inspect.isclass(thing) or inspect.isfunction(thing)):
            yield name, thing


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """A class's own public methods and properties, also where private parents of ours have them."""
    own: dict[str, Any] = {}
    for parent in reversed(cls.__mro__):
        if parent is cls or (is_ours(parent) and not is_public(parent.__module__)):
            own.update(vars(parent))
    for name, member in own.items():
        if name.startswith("_"):
            continue
        if isinstance(member, (staticmethod, classmethod)):
            member = member.__func__
        if isinstance(member, property):
            member = member.fget
        if inspect.isfunction(member) and is_ours(member):
            yield name, member


def is_documented(cls: type, name: str, member: Any) -> bool:
    """A method that overrides a documented one means the same, unless it says otherwise itself."""
    if inspect.getdoc(member):
        return True
    inherited = (vars(parent).get(name) for parent in cls.__mro__[1:])
    return any(getattr(one, "__doc__", None) for one in inherited)


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_has_a_docstring(name: str) -> None:
    """The names without one are listed."""
    module = importlib.import_module(name)
    silent = [] if module.__doc__ or not inspect.getsource(module).strip() else [name]
    for one, thing in offered(module):
        # attrs and NamedTuple make docstrings of their own, which say nothing.
        if not thing.__doc__ or thing.__doc__.startswith(f"{one}("):
            silent.append(one)
        if inspect.isclass(thing):
            silent += [f"{one}.{each}" for each, member in members(thing) if not is_documented(thing, each, member)]
    assert silent == []


def test_the_walk_sees_what_it_must() -> None:
    """It is no use if it walks past things."""
    seen = {
        f"{module}.{name}.{each}"
        for module in MODULES
        for name, thing in offered(importlib.import_module(module))
        if inspect.isclass(thing)
        for each, _ in members(thing)
    }
    assert {f"{PACKAGE}.connection.Connection.{one}" for one in ("ensure", "connected", "drain_events")} <= seen
    assert f"{PACKAGE}.broker.Broker.publish" in seen
    assert f"{PACKAGE}.entity.Queue.declare" in seen
