"""What the package offers exists, is documented, and costs nothing that was not asked for."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
import tomllib

import pytest

from tests.support.imports import PACKAGE, ROOT, source_modules

OPTIONAL = {
    *("aio_pika", "brotli", "celery", "click", "hypercorn", "httpx2", "kombu", "msgpack", "opentelemetry"),
    *("prometheus_client", "pytest", "rich", "starlette", "yaml"),
}

MODULE_OF = {"pyyaml": "yaml", "opentelemetry-api": "opentelemetry"}
"""What is imported of a distribution, where that has another name."""

MODULES = [module for module in source_modules() if not module.endswith(("__main__", ".celery.installed"))]
"""But for those whose import does something: the latter puts the package in kombu's place."""


def is_public(module: str) -> bool:
    return not any(part.startswith("_") for part in module.split("."))


@pytest.mark.parametrize("name", MODULES)
def test_every_offered_name_exists(name: str) -> None:
    """Each module imports, and each name in its ``__all__`` is there, once."""
    module = importlib.import_module(name)
    offered: list[str] = getattr(module, "__all__", [])
    assert sorted(set(offered)) == sorted(offered)
    assert [one for one in offered if not hasattr(module, one)] == []


@pytest.mark.parametrize("name", [module for module in MODULES if is_public(module)])
def test_every_offered_name_is_documented(name: str) -> None:
    """Public modules, and the classes and functions they offer as their own, say what they are for."""
    module = importlib.import_module(name)
    silent = []
    for one in getattr(module, "__all__", []):
        thing = getattr(module, one)
        ours = getattr(thing, "__module__", "").split(".")[0] == PACKAGE
        if ours and (inspect.isclass(thing) or inspect.isfunction(thing)) and not thing.__doc__:
            silent.append(one)
    assert silent == []


def test_every_module_says_what_it_is_for() -> None:
    """A module without a docstring is one whose purpose nobody could name."""
    silent = [
        name
        for name, path in source_modules().items()
        if (source := path.read_text().strip()) and not ast.get_docstring(ast.parse(source))
    ]
    assert silent == []


def test_the_types_are_shipped() -> None:
    """``py.typed`` tells type checkers to believe our annotations."""
    assert (ROOT / "py.typed").exists()


def loaded_by(statement: str) -> set[str]:
    """The modules that a fresh interpreter has loaded for a statement: ours in full, of others the first part."""
    loaded = printed_by(f"before = set(sys.modules)\n{statement}", "[*{*sys.modules} - before]")
    return {name if name.split(".")[0] == PACKAGE else name.split(".")[0] for name in loaded}


def printed_by(statement: str, expression: str) -> list[str]:
    """What a list is in a fresh interpreter after a statement."""
    script = f"import json, sys\n{statement}\nprint(json.dumps({expression}))"
    completed = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT.parent, capture_output=True, text=True, check=True, timeout=60
    )
    printed: list[str] = json.loads(completed.stdout)
    return printed


FACES = (
    *(
        "abstract",
        "clocks",
        "common",
        "compat",
        "compression",
        "connection",
        "entity",
        "exceptions",
        "log",
        "matcher",
        "message",
        "messaging",
        "mixins",
        "pools",
        "resource",
    ),
    *("asynchronous", "asynchronous.debug", "asynchronous.semaphore", "asynchronous.timer", "pidbox"),
    *("serialization", "simple", "utils.amq_manager", "utils.collections", "utils.compat", "utils.debug", "utils.div"),
    *("utils.eventio", "utils.imports", "utils.objects", "utils.text", "utils.time", "utils.url", "utils.uuid"),
)
RUNTIME = tuple(f"{PACKAGE}.{folder}." for folder in ("actors", "supervisors", "transport", "protocols"))


def test_importing_the_package_imports_nothing_else() -> None:
    """``import kombu_actors`` costs next to nothing: names are imported when they are used."""
    loaded = loaded_by(f"import {PACKAGE}")
    assert {name for name in loaded if name.startswith(PACKAGE)} == {
        PACKAGE,
        f"{PACKAGE}._values",
        f"{PACKAGE}._values.originals",
    }
    assert loaded - sys.stdlib_module_names <= {name for name in loaded if name.startswith(PACKAGE)}


def test_importing_all_documented_names_loads_neither_the_runtime_nor_an_extra() -> None:
    """Those of the package, and of all modules that kombu has, too; trio and what speaks to brokers come later."""
    documented = [f"{PACKAGE}.{face}" for face in FACES]
    modules = "\n".join(f"import {module}" for module in documented)
    loaded = loaded_by(f"from {PACKAGE} import *\n{modules}")
    assert set(documented) <= loaded
    assert {name for name in loaded if name.startswith(RUNTIME)} == set()
    assert loaded & (OPTIONAL | {"trio", "outcome", "redis", "hiredis", "asyncio", "subprocess", "email"}) == set()


@pytest.mark.parametrize(
    ("scheme", "others"), [("amqp", ("redis", "memory")), ("redis", ("amqp", "memory")), ("memory", ("amqp", "redis"))]
)
def test_a_connection_loads_the_transport_of_its_url_alone(scheme: str, others: tuple[str, ...]) -> None:
    """The first one of its kind does, when it is made."""
    loaded = loaded_by(f"from {PACKAGE} import Connection; Connection('{scheme}://')")
    assert f"{PACKAGE}.transport.{scheme}" in loaded
    assert {f"{PACKAGE}.transport.{other}" for other in others} & loaded == set()
    assert loaded & OPTIONAL == set()
    assert ("hiredis" in loaded) == (scheme == "redis")


NEEDED = (
    *("_bridge", "_facade", "_frozen", "_homes", "_logs", "_values"),
    *("actors", "errors", "supervisors", "transport", "utils"),
    *("protocols", "protocols._content", "protocols.amqp", "protocols.blame", "protocols.ledger", "protocols.numbers"),
    *("connection", "messaging", "serialization"),
)
"""What a connection over AMQP is made of: modules, and of all but ``protocols`` what is in them."""
NOT_NEEDED = {"asyncio", "concurrent", "dataclasses", "difflib", "email", "http", "multiprocessing", "pickle", "xml"}
"""Some of the standard library that costs milliseconds."""


def test_a_first_connection_over_amqp_loads_what_it_needs() -> None:
    """No more modules of ours than the limit, of no other part, and none of those that take long."""
    loaded = loaded_by(f"from {PACKAGE} import Connection, Consumer, Producer; Connection('amqp://')")
    ours = {name.removeprefix(f"{PACKAGE}.") for name in loaded if name.startswith(f"{PACKAGE}.")}
    beneath = tuple(f"{name}." for name in NEEDED if name != "protocols")
    assert [name for name in ours if name not in NEEDED and not name.startswith(beneath)] == []
    later = {"_bridge.looping", "_bridge.stay", "_bridge.supply", "_values.tls_settings"}
    assert (later | {"_facade.management", "_facade.watching"}) & ours == set()
    assert loaded & NOT_NEEDED == set()
    assert len(ours) <= 149


@pytest.mark.parametrize(
    ("mark", "kombus"), [("__attrs_attrs__", []), ("_field_defaults", ["codec", "queue_declare_ok_t", "urlparts"])]
)
def test_no_class_of_ours_is_compiled_for_a_first_connection_over_amqp(mark: str, kombus: list[str]) -> None:
    """attrs and NamedTuple compile methods for each class when it is imported: 64 classes were a sixth of what a
    connection costs, 69 a tenth.  Those that kombu documents as named tuples are named tuples."""
    made = (
        "[kind.__qualname__ for name, module in [*sys.modules.items()] if name.startswith('kombu_actors')"
        " for kind in vars(module).values() if isinstance(kind, type)"
        f" and kind.__module__ == name and {mark!r} in vars(kind) and kind.__name__ != '_Sixteen']"
    )
    assert sorted(printed_by(f"from {PACKAGE} import Connection; Connection('amqp://')", made)) == kombus


def test_lazy_names_look_like_any_others() -> None:
    """They are in ``dir()`` before they are used, are looked up once, and a misspelt one is an ``AttributeError``."""
    package = importlib.import_module(PACKAGE)
    assert set(package.__all__) <= set(dir(package))
    assert package.Connection is package.BrokerConnection
    assert vars(package)["Connection"] is package.Connection
    with pytest.raises(AttributeError, match=r"module 'kombu_actors' has no attribute 'Conection'"):
        _ = package.Conection
    with pytest.raises(ImportError, match="cannot import name 'Conection'"):
        exec(f"from {PACKAGE} import Conection")


def test_extras_promise_only_what_is_imported() -> None:
    """Each distribution that an extra brings is imported by some module of the package."""
    extras = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    sources = "\n".join(path.read_text() for path in source_modules().values())
    for requirement in [one for extra, wanted in extras.items() if extra != "dev" for one in wanted]:
        distribution = re.split(r"[<>=;\s]", requirement)[0]
        module = re.escape(MODULE_OF.get(distribution, distribution))
        assert re.search(rf"(import {module}\b|from {module}\b|\"{module}\")", sources), distribution
