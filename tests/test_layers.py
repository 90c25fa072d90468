"""Imports run downwards only; engines know neither clock nor network; one file bridges threads and trio."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.imports import PACKAGE, Import, all_imports

# The longest prefix decides; a module that nobody names is facade.
LAYER_OF = {
    "": "root",
    "errors": "errors",
    "_model": "values",
    "_originals": "values",
    "_endpoint": "values",
    "_tls_settings": "values",
    "serialization": "values",
    "compression": "values",
    "utils": "values",
    "protocols": "protocols",
    "supervisors": "supervisors",
    "transport": "transport",
    "actors": "actors",
    "broker": "broker",
    "_subscription": "broker",
    "_backlog": "broker",
    "_block": "broker",
    "_entries": "broker",
    "_opening": "broker",
    "_portal": "portal",
    "_bells": "portal",
    "_jobs": "portal",
    "_tenant": "portal",
    "_doorbell": "portal",
    "_forking": "portal",
    "_sockets": "portal",
    "fleet": "fleet",
    "__main__": "fleet",
    "testing": "testing",
}

_BELOW_TRANSPORT = {"errors", "values", "protocols"}
_BELOW_BROKER = _BELOW_TRANSPORT | {"supervisors", "transport", "actors"}
_BELOW_FACADE = _BELOW_BROKER | {"broker", "portal"}

# What each layer may import besides itself.
MAY_IMPORT = {
    "errors": set(),
    "values": {"errors"},
    "protocols": {"errors", "values"},
    "supervisors": {"errors"},  # generic: knows no message, queue or URL
    "transport": _BELOW_TRANSPORT,
    "actors": _BELOW_TRANSPORT | {"supervisors", "transport"},
    "broker": _BELOW_BROKER,
    "portal": _BELOW_BROKER | {"broker"},
    "facade": _BELOW_FACADE,
    "fleet": _BELOW_BROKER | {"broker"},
    "root": _BELOW_FACADE | {"facade", "fleet"},
    "testing": _BELOW_FACADE | {"facade", "fleet", "root"},
}

# Time and randomness come in as arguments; bytes come in as arguments.
IMPURE = {
    *("trio", "outcome", "asyncio", "threading", "multiprocessing", "subprocess"),
    *("socket", "select", "selectors", "ssl", "time", "random", "secrets", "uuid"),
}
# The pure part of supervision is whatever its kernel needs.
KERNEL = "supervisors._kernel"

# A bridge needs both worlds.  The memory broker is shared by several trio runs, hence its one lock.
THREADS_AND_TRIO = {"_portal", "_doorbell", "transport.memory"}


def short(module: str) -> str:
    return module.removeprefix(PACKAGE).removeprefix(".")


def layer_of(module: str) -> str:
    parts = short(module).split(".")
    for length in range(len(parts), 0, -1):
        if layer := LAYER_OF.get(".".join(parts[:length])):
            return layer
    return "facade"


def is_ours(module: str) -> bool:
    return module.split(".")[0] == PACKAGE


def roots(imports: list[Import]) -> set[str]:
    """The top-level names of everything foreign that is imported."""
    return {item.imported.split(".")[0] for item in imports if not is_ours(item.imported)}


@pytest.fixture(scope="module")
def imports() -> dict[str, list[Import]]:
    return all_imports()


def upward(imports: dict[str, list[Import]]) -> list[str]:
    wrong = []
    for module, items in imports.items():
        own = layer_of(module)
        for item in items:
            other = layer_of(item.imported) if is_ours(item.imported) else own
            if other != own and other not in MAY_IMPORT[own]:
                wrong.append(f"{item}: {own} may not import {other}")
    return wrong


def test_imports_run_downwards_only(imports: dict[str, list[Import]]) -> None:
    """The table above holds for every import, those inside functions included."""
    assert upward(imports) == []


def test_protocols_are_sans_io(imports: dict[str, list[Import]]) -> None:
    """Engines get bytes, time and random draws as arguments, and report by return value, not by log."""
    wrong = {
        module: found
        for module, items in imports.items()
        if layer_of(module) == "protocols" and (found := roots(items) & (IMPURE | {"logging"}))
    }
    assert wrong == {}


def test_the_supervision_kernel_is_pure(imports: dict[str, list[Import]]) -> None:
    """The kernel and all that it imports can be explored exhaustively: no clock, no dice, no trio."""
    todo, seen = [f"{PACKAGE}.{KERNEL}"], set[str]()
    while todo:
        module = todo.pop()
        if module in seen or module not in imports:
            continue
        seen.add(module)
        todo += [item.imported for item in imports[module] if is_ours(item.imported)]
    assert f"{PACKAGE}.{KERNEL}" in imports
    wrong = {module: found for module in sorted(seen) if (found := roots(imports[module]) & (IMPURE | {"logging"}))}
    assert wrong == {}


def test_the_facade_never_imports_trio(imports: dict[str, list[Import]]) -> None:
    """Blocking code stays free of the event loop: the portal is the only way to it."""
    wrong = [module for module, items in imports.items() if layer_of(module) == "facade" and "trio" in roots(items)]
    assert wrong == []


def test_only_the_bridge_knows_threads_and_trio(imports: dict[str, list[Import]]) -> None:
    """Thread-safety questions have one address."""
    both = {
        short(module)
        for module, items in imports.items()
        if {"threading", "trio"} <= roots(items) and layer_of(module) != "testing"
    }
    assert both <= THREADS_AND_TRIO


def test_values_do_no_io(imports: dict[str, list[Import]]) -> None:
    """Values and codecs run in any thread and import no event loop, thread or socket."""
    forbidden = {"trio", "threading", "socket", "asyncio", "selectors", "subprocess"}
    wrong = {
        module: found
        for module, items in imports.items()
        if layer_of(module) in ("errors", "values") and (found := roots(items) & forbidden)
    }
    assert wrong == {}


def test_the_walk_sees_what_it_must(tmp_path: Path) -> None:
    """Deferred and relative imports count, those for type checkers don't."""
    package = tmp_path / PACKAGE
    (package / "protocols").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "connection.py").write_text("")
    (package / "broker.py").write_text("from . import connection\n")
    (package / "protocols" / "__init__.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from ..connection import Connection\n"
        "else:\n    import random\n"
        "def later():\n    from ..broker import open_broker\n"
        "    from .. import errors\n"
    )
    found = all_imports(package)
    assert [str(item) for item in found[f"{PACKAGE}.protocols"]] == [
        "kombu_actors.protocols line 1 imports typing",
        "kombu_actors.protocols line 5 imports random",
        "kombu_actors.protocols line 7 imports kombu_actors.broker",
        "kombu_actors.protocols line 8 imports kombu_actors",
    ]
    assert [item.imported for item in found[f"{PACKAGE}.broker"]] == [f"{PACKAGE}.connection"]
    assert len(upward(found)) == 3
