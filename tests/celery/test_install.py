"""kombu_actors in kombu's place: module by module the same objects, for all processes, and only when there is time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kombu_actors.celery import DIRECTORY

ROOT = Path(__file__).parents[2]
LINE = "is in kombu's place in this process"


def python(*arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program of its own."""
    return subprocess.run(
        [sys.executable, *arguments],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=check,
        timeout=60,
    )


def test_modules_of_kombus_names_are_ours() -> None:
    """The same module objects, however they are imported; those that kombu has and we have not say so."""
    done = python(
        "-c",
        """
import kombu_actors.celery.installed
import importlib, pickle
import kombu, kombu.pools, kombu.utils.url
from kombu.exceptions import OperationalError
from kombu import Queue, pools
import kombu_actors
for name in ("", ".pools", ".utils.url", ".exceptions", ".entity", ".transport", ".utils"):
    assert importlib.import_module("kombu" + name) is importlib.import_module("kombu_actors" + name), name
assert kombu is kombu_actors and kombu.__name__ == "kombu_actors" == kombu.__spec__.name
assert kombu.utils.url.__spec__.name == "kombu_actors.utils.url"
assert issubclass(kombu_actors.errors.PublishUnknown, kombu_actors.errors.KombuError)
error = pickle.loads(pickle.dumps(OperationalError("x")))
assert type(error) is OperationalError and type(error).__module__ == "kombu.exceptions"
queue = Queue("q")
assert type(pickle.loads(pickle.dumps(queue))) is Queue
try:
    import kombu.transport.SQS
except ModuleNotFoundError as error:
    assert error.name == "kombu.transport.SQS" and "kombu_actors is in kombu's place" in str(error)
else:
    raise AssertionError
""",
    )
    assert done.stderr.count(LINE) == 1


def test_every_name_that_celery_imports_is_there() -> None:
    """Wherever in its modules it says ``from kombu... import``; but for a transport of Azure's, which is not ours."""
    done = python(
        "-c",
        """
import kombu_actors.celery.installed
import ast, pathlib, celery
asked = {
    f"from {node.module} import {alias.name}"
    for path in pathlib.Path(celery.__file__).parent.rglob("*.py")
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == "kombu"
    for alias in node.names
}
for statement in asked - {"from kombu.transport.azurestoragequeues import Transport"}:
    exec(statement)
print(len(asked))
""",
    )
    assert int(done.stdout) > 50


def test_it_is_said_once_and_when_kombu_is_imported() -> None:
    """Installing imports nothing of ours but itself and says nothing; doing it again does nothing."""
    done = python(
        "-c",
        "from kombu_actors.celery import install; import sys\n"
        "assert install() and install()\n"
        "assert [type(one).__name__ for one in sys.meta_path].count('KombuFinder') == 1\n"
        "assert 'kombu_actors.connection' not in sys.modules and 'logging' not in sys.modules\n"
        "print('before', flush=True); import kombu; import kombu.entity\n",
    )
    assert done.stderr.count(LINE) == 1


def test_it_refuses_when_kombu_was_imported() -> None:
    """Two kinds of classes would meet: the error says what to do instead."""
    done = python("-c", "import kombu; import kombu_actors.celery.installed", check=False)
    assert done.returncode != 0
    assert "TooLate: kombu was imported before" in done.stderr
    assert "python -m kombu_actors celery" in done.stderr
    assert LINE not in done.stderr


def test_an_environment_variable_goes_back() -> None:
    """With ``KOMBU_ACTORS_CELERY=0`` it is stock kombu, whatever the program says."""
    code = "import kombu_actors.celery.installed, kombu; print(kombu.Connection.__module__)"
    assert python("-c", code).stdout.strip() == "kombu_actors.connection"
    assert python("-c", code, KOMBU_ACTORS_CELERY="0").stdout.strip() == "kombu.connection"
    for path, value, expected in [
        (DIRECTORY, "", "kombu_actors.connection"),
        (DIRECTORY, "0", "kombu.connection"),
    ]:
        done = python(
            "-c",
            "import kombu; print(kombu.Connection.__module__)",
            PYTHONPATH=f"{path}:{ROOT}",
            KOMBU_ACTORS_CELERY=value,
        )
        assert done.stdout.strip() == expected


def test_children_are_switched_too() -> None:
    """Forked ones, and Python programs started by a switched one."""
    code = """
import kombu_actors.celery.installed, os, subprocess, sys
show = "import kombu; print(kombu.Connection.__module__)"
subprocess.run([sys.executable, "-c", show], check=True)
if (child := os.fork()) == 0:
    exec(show)
    sys.stdout.flush()
    os._exit(0)
os.waitpid(child, 0)
"""
    assert python("-c", code).stdout.split() == ["kombu_actors.connection"] * 2


def test_a_containers_environment_is_enough(tmp_path: Path) -> None:
    """The directory that ``--path`` prints, in PYTHONPATH; the ``sitecustomize`` that it hides is run as well."""
    printed = python("-m", "kombu_actors", "celery", "--path").stdout.strip()
    assert printed == DIRECTORY
    (tmp_path / "sitecustomize.py").write_text("import os; os.environ['HIDDEN'] = 'run'\n")
    code = "import os, kombu; print(kombu.Connection.__module__, os.environ['HIDDEN'])"
    done = python("-c", code, PYTHONPATH=os.pathsep.join([printed, str(tmp_path), str(ROOT)]))
    assert done.stdout.split() == ["kombu_actors.connection", "run"]
    assert done.stderr.count(LINE) == 1


def test_a_program_that_never_imports_kombu_pays_next_to_nothing() -> None:
    """In a switched container other Python programs say nothing, and start as soon."""
    done = python("-X", "importtime", "-c", "pass", PYTHONPATH=f"{DIRECTORY}:{ROOT}")
    assert LINE not in done.stderr
    assert "kombu_actors._facade" not in done.stderr
    micros = sum(
        int(line.split("|")[0].rpartition(":")[2]) for line in done.stderr.splitlines() if "kombu_actors" in line
    )
    assert micros < 100_000


def test_the_celery_program_is_found_and_its_lack_told() -> None:
    """``python -m kombu_actors celery`` is the celery program; ``kombu-actors --help`` names it."""
    done = python("-m", "kombu_actors", "celery", "--version")
    assert done.stdout.startswith("5.7")
    began = time.monotonic()
    report = python("-m", "kombu_actors", "celery", "report")
    assert "celery:5.7" in report.stdout
    assert report.stderr.count(LINE) == 1
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("name", ["kombu_actors.celery", "kombu_actors.celery.program"])
def test_our_module_does_not_shadow_celery(name: str) -> None:
    """``import celery`` in there is Celery."""
    done = python("-c", f"import {name}, celery; print(celery.VERSION[:2])", check=True)
    assert done.stdout.strip() == "(5, 7)"


def test_exclusive_queues_in_memory_are_shared_as_with_kombu() -> None:
    """Test suites in memory forget connections and use such queues from two; they go with their last consumer."""
    python(
        "-c",
        """
import kombu_actors.celery.installed
from kombu import Connection, Consumer, Queue
first, second = Connection("memory://"), Connection("memory://")
Queue("mine", exclusive=True)(first).declare()
first.Producer().publish("x", routing_key="mine")
got = []
with Consumer(second, [Queue("mine", exclusive=True)], callbacks=[lambda body, message: got.append(body)], no_ack=True):
    second.drain_events(timeout=20)
assert got == ["x"]
try:
    Queue("mine")(first).queue_declare(passive=True)
except first.channel_errors:
    pass
else:
    raise AssertionError
first.release(); second.release()
""",
    )
