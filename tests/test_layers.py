"""Imports run downwards, folder by folder; engines know neither clock nor network; threads meet trio in one folder."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.support.imports import PACKAGE, ROOT, Import, all_imports, source_modules

# A layer is a folder.  In the root stand kombu's documented names, and these:
ROOT_FILES = {
    "broker": "native",
    "_subscription": "native",
    "aio": "aio",
    "serialization": "codecs",
    "compression": "codecs",
    "errors": "errors",
    "_frozen": "records",
    "_homes": "homes",
    "_logs": "logs",
    "__main__": "cli",
}
# ``_native`` holds what ``broker`` is made of, and ``aio`` as far as it is the same; ``_aio`` holds the rest of that.
# ``asynchronous`` is documented by kombu.
FOLDERS = {"_native": "native", "_aio": "aio", "asynchronous": "names"}
# Documented names of kombu's that live in a folder below, and stand on more than is there.
NAMES_BELOW = {
    *("utils.amq_manager", "utils.compat", "utils.debug", "utils.eventio", "utils.objects"),
    *("transport.aliases", "transport.base", "transport.native_delayed_delivery", "transport.pyamqp"),
    "transport.virtual",
}

_ENGINES = {"errors", "records", "homes", "logs", "utils", "_values", "codecs", "protocols"}
_ACTORS = _ENGINES | {"supervisors", "transport", "actors"}

# What each layer may import besides itself, from the top down.  Threads reach the actors through the bridge, trio
# programs through ``broker``: neither way knows of the other.  asyncio programs go both ways, one after the other.
MAY_IMPORT = {
    "testing": {"fleet", "errors", "native", "supervisors", "transport", "utils"},
    "celery": {"names"},  # which it puts in kombu's place
    "cli": {"celery", "control", "doctor", "web", "hosting", "fleet", "supervisors", "errors", "names"},
    "control": {"hosting", "fleet", "errors"},
    "web": {"hosting", "fleet", "native", "supervisors", "errors", "_bridge", "names"},
    "doctor": {"native", "transport", "_values", "errors", "utils"},
    "hosting": {"fleet", "supervisors", "errors"},
    "fleet": {"native", "supervisors", "codecs", "errors", "records", "utils", "logs", "_values", "_bridge"},
    "names": _ENGINES | {"transport", "_bridge", "_facade"},
    "_facade": _ENGINES | {"transport", "_bridge"},
    "aio": _ACTORS | {"_bridge", "native"},
    "_bridge": _ACTORS,
    "native": _ACTORS,
    "actors": _ACTORS - {"actors", "codecs"},
    "supervisors": {"errors", "records", "homes", "logs"},  # generic: knows no message, queue or URL
    "transport": _ENGINES - {"codecs"},
    "protocols": {"errors", "records", "utils", "_values"},
    "codecs": {"errors", "utils"},
    "_values": {"errors", "records", "utils"},
    "migrate": set(),  # looks at names, and imports none of ours of itself
    "utils": {"errors", "homes"},
    "errors": set(),
    "records": set(),
    "homes": set(),
    "logs": {"records"},
}

# What in the runtime belongs to one thread.  The bridge's handles have doors to it, for the bridge.
RUNTIME = {
    *("actor", "owner", "supervisor", "session", "selector", "dialler", "link", "topology", "quarantine"),
    *("publisher", "ledger", "submissions", "live", "wire"),
}

# kombu's API has them make each other: ``connection.Pool()``, ``pool.connection``, ``connection.SimpleQueue()``.
CIRCLE = {"connection", "pools", "simple"}

# Time and randomness come in as arguments; bytes come in as arguments.
IMPURE = {
    *("trio", "outcome", "asyncio", "threading", "multiprocessing", "subprocess"),
    *("socket", "select", "selectors", "ssl", "time", "random", "secrets", "uuid"),
}
# The pure part of supervision is whatever its kernel needs.
KERNEL = "supervisors._kernel"

# Where threads may be known at all.  (The memory broker, which several runs of trio share, has a lock by another name.)
THREADS = {"names", "_facade", "_bridge", "fleet"}

# A fleet is a trio program, on the native API.  Its one file for callers in threads stands on the bridge.
FLEETS_BRIDGE = "fleet._blocking"


DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def short(module: str) -> str:
    return module.removeprefix(PACKAGE).removeprefix(".")


def layer_of(module: str) -> str:
    if short(module) in NAMES_BELOW:
        return "names"
    first, _, inner = short(module).partition(".")
    if inner or first in MAY_IMPORT or first in FOLDERS:
        return FOLDERS.get(first, first)
    return ROOT_FILES.get(first, "names")


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


def in_circles(imports: dict[str, list[Import]]) -> set[str]:
    """The modules that come back to themselves by following imports."""
    below = {module: {item.imported for item in items if item.imported in imports} for module, items in imports.items()}
    found = set()
    for module in below:
        todo, seen = list(below[module]), set[str]()
        while todo:
            other = todo.pop()
            if other not in seen:
                seen.add(other)
                todo += below[other]
        if module in seen:
            found.add(short(module))
    return found


def test_every_folder_is_a_layer() -> None:
    """The table names what there is, and nothing else."""
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__"}
    files = {path.stem for path in ROOT.glob("*.py")}
    layers = set(MAY_IMPORT) - {"names"} - set(FOLDERS.values()) - (set(ROOT_FILES.values()) - {"cli"})
    assert folders == layers | set(FOLDERS)
    assert set(ROOT_FILES) <= files
    assert {f"{PACKAGE}.{module}" for module in NAMES_BELOW} <= set(source_modules())
    assert {layer for below in MAY_IMPORT.values() for layer in below} <= set(MAY_IMPORT)


def test_imports_run_downwards_only(imports: dict[str, list[Import]]) -> None:
    """The table above holds for every import, those inside functions included."""
    assert upward(imports) == []


def test_transports_know_nothing_of_each_other(imports: dict[str, list[Import]]) -> None:
    """What two of them need stands in ``transport`` itself, or in ``protocols``."""
    wrong = []
    for module, items in imports.items():
        match short(module).split("."):
            case ["transport", kind, *_] if short(module) not in NAMES_BELOW:
                others = {f"{PACKAGE}.transport.{one}" for one in ("amqp", "redis", "memory") if one != kind}
                wrong += [str(item) for item in items if ".".join(item.imported.split(".")[:3]) in others]
    assert wrong == []


def test_no_modules_import_each_other(imports: dict[str, list[Import]]) -> None:
    """A module can be understood, and loaded, after those below it; but for the three that kombu's API ties."""
    assert in_circles(imports) == CIRCLE


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
    blocking = {"names", "_facade"}
    wrong = [module for module, items in imports.items() if layer_of(module) in blocking and "trio" in roots(items)]
    assert wrong == []


def test_asyncio_meets_trio_in_the_bridge_only(imports: dict[str, list[Import]]) -> None:
    """What is in the program's loop awaits nothing of trio's; what is asyncio's is known there and in the bridge."""
    assert [module for module, items in imports.items() if layer_of(module) == "aio" and "trio" in roots(items)] == []
    assert {layer_of(module) for module, items in imports.items() if "asyncio" in roots(items)} == {"aio", "_bridge"}


def reaches(tree: ast.AST, forbidden: set[str]) -> list[str]:
    """Where a module asks something of the runtime, or of others' private parts, that isn't its own (``self``)."""
    return [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in forbidden
        and not (node.attr.startswith("_") and isinstance(node.value, ast.Name) and node.value.id == "self")
    ]


def private_parts(*layers: str) -> set[str]:
    """What the classes of those layers keep to themselves."""
    modules = [path for module, path in source_modules().items() if layer_of(module) in layers]
    trees = [ast.parse(path.read_text()) for path in modules]
    stored = {
        node.attr
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }
    made = {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, DEFINITIONS)}
    return {name for name in stored | made if name.startswith("_") and not name.startswith("__")}


def test_the_facade_reaches_the_runtime_through_the_bridge_only() -> None:
    """Blocking code asks the bridge's handles, which say what may be read from any thread; it knows no actor, not even
    by type, and looks into nobody's state."""
    blocking = {"names", "_facade"}
    forbidden = RUNTIME | (private_parts("_bridge") - private_parts(*blocking))
    wrong = {}
    for module, path in source_modules().items():
        if layer_of(module) in blocking:
            source = path.read_text()
            found = reaches(ast.parse(source), forbidden)
            found += [line for line in source.splitlines() if re.match(r"\s*from \.+(actors|supervisors)\b", line)]
            if found:
                wrong[module] = found
    assert wrong == {}


def test_a_reach_is_seen() -> None:
    """The examples that the rule was made for."""
    code = "self._tree.actor.session.link; publisher.ledger.waiting; handle._owner; self._owner; channel.number"
    assert set(reaches(ast.parse(code), RUNTIME | {"_owner"})) == {
        "line 1: self._tree.actor",
        "line 1: self._tree.actor.session",
        "line 1: self._tree.actor.session.link",
        "line 1: publisher.ledger",
        "line 1: handle._owner",
    }


def test_threads_meet_trio_in_the_bridge_only(imports: dict[str, list[Import]]) -> None:
    """Thread-safety questions have one address; what stands below it knows of no thread."""
    both = {layer_of(module) for module, items in imports.items() if {"threading", "trio"} <= roots(items)}
    assert both <= {"_bridge", "fleet"}  # a fleet looks at the stacks of the threads that its plain functions run in
    assert {layer_of(module) for module, items in imports.items() if "threading" in roots(items)} <= THREADS


def test_a_fleet_meets_the_bridge_in_one_file(imports: dict[str, list[Import]]) -> None:
    """What runs in trio stands on ``broker``; only the blocking client knows of another thread's runtime."""
    found = {
        short(module)
        for module, items in imports.items()
        if layer_of(module) == "fleet" and any(layer_of(item.imported) == "_bridge" for item in items)
    }
    assert found <= {FLEETS_BRIDGE}


def test_the_web_meets_the_bridge_in_one_file(imports: dict[str, list[Import]]) -> None:
    """As a fleet does: what is served is served in trio, whoever asked for it."""
    found = {
        short(module)
        for module, items in imports.items()
        if layer_of(module) == "web" and any(layer_of(item.imported) == "_bridge" for item in items)
    }
    assert found <= {"web.blocking"}


def test_what_the_runtime_runs_logs_where_it_may_wait() -> None:
    """A plain logger has locks that are gevent's or eventlet's where they have patched."""
    runtime = {"actors", "transport", "supervisors", "_bridge", "native"}
    wrong = [
        short(module)
        for module, path in source_modules().items()
        if layer_of(module) in runtime and "logging.getLogger" in path.read_text()
    ]
    assert wrong == ["_bridge.greenlets"]  # which logs in the program's thread


def test_values_do_no_io(imports: dict[str, list[Import]]) -> None:
    """Values and codecs run in any thread and import no event loop, thread or socket."""
    forbidden = {"trio", "threading", "socket", "asyncio", "selectors", "subprocess"}
    wrong = {
        module: found
        for module, items in imports.items()
        if layer_of(module) in ("errors", "utils", "_values", "codecs") and (found := roots(items) & forbidden)
    }
    assert wrong == {}


def test_the_walk_sees_what_it_must(tmp_path: Path) -> None:
    """Deferred and relative imports count, those for type checkers don't; who comes back to himself is in a circle."""
    package = tmp_path / PACKAGE
    (package / "protocols").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "connection.py").write_text("")
    (package / "broker.py").write_text("from . import connection\n")
    (package / "protocols" / "ledger.py").write_text("from . import blame\n")
    (package / "protocols" / "blame.py").write_text("def later():\n    from .ledger import Ledger\n")
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
    assert in_circles(found) == {"protocols.ledger", "protocols.blame"}
