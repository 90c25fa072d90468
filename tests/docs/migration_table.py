"""Which of kombu's modules are here: the table of docs/migrating-from-kombu.md, made by looking.

``python -m tests.docs.migration_table`` prints it.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import kombu

from kombu_actors.migrate.judging import TRIGGER
from kombu_actors.migrate.lookup import look_up
from kombu_actors.migrate.meets import MEETS
from kombu_actors.migrate.missing import missing_reason


def public_names() -> Iterator[str]:
    """All of stock kombu's: its modules, their names, the methods of their classes."""
    yield "kombu"
    for info in pkgutil.walk_packages(kombu.__path__, "kombu."):
        yield info.name
        try:
            module = importlib.import_module(info.name)
        except (ImportError, NameError):
            continue  # it needs something that is not installed; then all of it is missing here
        own = [name for name, thing in vars(module).items() if getattr(thing, "__module__", "") == info.name]
        for name in getattr(module, "__all__", own):
            if not name.startswith("_"):
                yield f"{info.name}.{name}"
                thing = getattr(module, name)
                if inspect.isclass(thing) and thing.__module__ == info.name:
                    members = inspect.getmembers(thing, lambda one: callable(one) or isinstance(one, property | bool))
                    yield from (f"{info.name}.{name}.{one}" for one, _ in members if not one.startswith("_"))


def missing_names() -> set[str]:
    """Those that are not here."""
    return {name for name in public_names() if look_up(name).here is not True}


def module_of(trigger: str) -> str:
    """Where stock kombu has what meets a row."""
    parts = TRIGGER.match(trigger)
    if "://" in trigger or not parts:
        return "kombu.connection"
    thing: Any = kombu
    for name in parts["name"].split("."):
        if not hasattr(thing, name):
            break
        thing = getattr(thing, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            module: str = thing.__module__
            return module
    return f"kombu.{parts['name'].partition('.')[0]}"


def met_by_module() -> dict[str, list[str]]:
    """The rows of docs/differences.md that each module's users may meet."""
    found: dict[str, list[str]] = defaultdict(list)
    for key, triggers in MEETS.items():
        for module in dict.fromkeys(map(module_of, triggers)):
            found[module].append(key)
    return found


def table() -> Iterator[str]:
    """The rows, module by module; modules that are missing for the same reason share one."""
    modules = ["kombu", *(info.name for info in pkgutil.walk_packages(kombu.__path__, "kombu."))]
    missing, met = missing_names(), met_by_module()
    gone = sorted(missing & set(modules))
    yield "| kombu | here | what is missing, and the rows of differences.md that its users may meet |"
    yield "|---|---|---|"
    for name in sorted(set(modules) - missing):
        names = sorted(one for one in missing if nearest(one, modules) == name)
        said = [
            f"not there: {', '.join(f'`{one}`' for one in shortly(each[len(name) + 1 :] for each in some))} ({reason})"
            for reason, some in by_reason(one for one in names if one.rpartition(".")[0] not in names).items()
        ]
        said += [f"`{key}`" for key in met.get(name, ())]
        yield f"| `{name}` | {'differs' if said else 'works'} | {', '.join(said)} |"
    for reason, names in by_reason(gone).items():
        yield f"| {', '.join(f'`{name}`' for name in names)} | not there | {reason} |"


MANY = 3
"""More missing members of a class than these are told as ``Class.*``."""


def shortly(names: Iterable[str]) -> list[str]:
    """Names of a module, and of members of its classes."""
    all_names = list(names)
    owners = Counter(name.rpartition(".")[0] for name in all_names)
    told = [
        f"{owner}.*" if owner and owners[owner] > MANY else name
        for name in all_names
        for owner in [name.rpartition(".")[0]]
    ]
    return list(dict.fromkeys(told))


def by_reason(names: Iterable[str]) -> dict[str, list[str]]:
    """Names together that are missing for the same reason."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in names:
        found[missing_reason(name)].append(name)
    return found


def nearest(name: str, modules: list[str]) -> str:
    """The module that a name is in."""
    return max((one for one in modules if f"{name}.".startswith(f"{one}.")), key=len)


if __name__ == "__main__":
    print(*table(), sep="\n")
