"""What the package offers exists, is documented, and costs nothing that was not asked for."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import subprocess
import sys

import pytest

from tests.support.imports import PACKAGE, ROOT, source_modules

OPTIONAL = {
    *("aio_pika", "brotli", "celery", "click", "hypercorn", "httpx2", "kombu", "msgpack", "opentelemetry"),
    *("prometheus_client", "pytest", "rich", "starlette", "yaml"),
}

MODULES = [module for module in source_modules() if not module.endswith("__main__")]


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


def test_importing_the_package_imports_no_extra() -> None:
    """A fresh interpreter that imports us has loaded nothing of the optional dependencies."""
    script = f"import json, sys, {PACKAGE}; print(json.dumps(sorted(sys.modules)))"
    completed = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT.parent, capture_output=True, text=True, check=True, timeout=60
    )
    loaded = {module.split(".")[0] for module in json.loads(completed.stdout)}
    assert loaded & OPTIONAL == set()
