"""Celery's own tests, from the package index, on stock kombu and on kombu_actors: ``python -m soak.celery_suite``.

Compared test by test: what passes with stock kombu must pass here, but for ``EXCEPTIONS``; one of those that passes
here, or doesn't with stock kombu, fails the comparison, too.  Both run at the same time, so under the same load.

Arguments choose: ``unit``, ``rabbitmq``, ``redis`` (the integration tests on that broker, results on Redis), and files
or single tests of Celery's, relative to its sdist: ``python -m soak.celery_suite unit t/unit/worker``.  ``stock`` or
``ours`` runs that kombu only, and compares with the other's last run.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from tests.support.brokers import RabbitMQNode, RedisNode

from ._celery_diary import OUTCOMES, PATIENCE, SWITCHED

ROOT = Path(__file__).parents[1]
VERSION = version("celery")
"""The sdist's, and that of the installed package, which is tested."""
PLACE = ROOT / ".venv" / "celery-suite"
NEEDED = (
    *("pytest-timeout", "pytest-click", "pytest-order", "pytest-rerunfailures", "pytest-subtests"),
    *("freezegun", "moto", "django"),
)
PLUGINS = (
    *("soak._celery_diary", "celery.contrib.pytest", "pytest_timeout", "pytest_click", "pytest_order.plugin"),
    *("pytest_rerunfailures", "pytest_subtests.plugin"),
)
KOMBUS = ("stock", "ours")
PARTS = {"unit": "t/unit", "rabbitmq": "t/integration", "redis": "t/integration"}
TEST_PATIENCE = 120.0
"""Seconds for one test."""
PART_PATIENCE = 3600.0
"""Seconds for one part."""
RAN_THROUGH = (0, 1)
"""pytest's exit status when all tests ran, whether they passed or not."""
EXCEPTIONS: dict[str, dict[str, str]] = {
    "unit": {
        "t/unit/app/test_amqp.py::test_ProducerPool::test_setup": "looks at a pool's private parts (_resource.queue)",
        "t/unit/app/test_amqp.py::test_ProducerPool::test_setup_nolimit": "the same",
        "t/unit/app/test_app.py::test_App::test_amqp_failover_strategy_selection": (
            "an unknown failover strategy is refused when the connection is made"
        ),
        "t/unit/contrib/test_migrate.py::test_migrate_tasks::test_migrate": (
            "gives one of two connections to the same memory host other queues, by a channel's private parts (queues)"
        ),
        "t/unit/events/test_events.py::test_EventReceiver::test_itercapture_limit": (
            "reads from a queue that a test before it left behind; an auto-delete queue goes with its consumer here"
        ),
        "t/unit/tasks/test_tasks.py::test_tasks::test_regular_task": (
            "fetches a message whose expiration is 0; in memory, too, that has expired here, as on RabbitMQ"
        ),
        "t/unit/worker/test_worker.py::test_Consumer::test_connect_errback": "patches Connection._establish_connection",
        "t/unit/worker/test_worker.py::test_Consumer::test_start__loop": (
            "an OSError is none of the connection's with stock kombu in memory; here it is one everywhere"
        ),
    },
    "redis": {
        "t/integration/test_connection_recovery.py::test_reconnect_cleanup_is_bounded": (
            "looks for a BRPOP under way (Channel._in_poll): there is none, and every ending has its deadline"
        ),
        "t/integration/test_connection_recovery.py::test_cold_shutdown_teardown_is_bounded": "the same",
    },
    "rabbitmq": {},
}
"""What is not asked for, and why: ten at the most, told to users in ``docs/celery.md``."""


def main() -> int:
    """Run what is asked for; 1 when not exactly the exceptions are missing (of single files, no more than those)."""
    words = sys.argv[1:]
    parts = [part for part in PARTS if part in words] or list(PARTS)
    kombus = [kombu for kombu in KOMBUS if kombu in words] or list(KOMBUS)
    files = [word for word in words if word not in (*PARTS, *KOMBUS)]
    _fetch()
    failed = 0
    for part in parts:
        chosen = files or [PARTS[part]]
        _run(part, kombus, chosen)
        stock, ours = (_passed(_kept(part, kombu, "outcomes"), chosen) for kombu in KOMBUS)
        missing = stock - ours
        excepted = EXCEPTIONS[part]
        surprising = missing - excepted.keys()
        outdated = set() if files else excepted.keys() - missing
        for name in sorted(missing | outdated):
            print(f"  {name}: {excepted.get(name, 'NOT EXCEPTED') if name in missing else 'NO EXCEPTION ANY MORE'}")
        failed += len(surprising | outdated)
        print(
            f"Celery {VERSION}, {part}: {len(stock)} tests pass with stock kombu, {len(ours)} with kombu_actors; "
            f"{len(missing)} are missing, {len(missing) - len(surprising)} of them with a reason",
            flush=True,
        )
    print(f"Celery's own tests: {failed} not as expected")
    return int(bool(failed))


def _fetch() -> None:
    """The sdist, once for each kombu, without its own celery, and what its tests need."""
    done = PLACE / f"fetched-{VERSION}"
    if done.exists():
        return
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True)
    pip = [sys.executable, "-m", "pip", "-q"]
    subprocess.run(
        [*pip, "download", "--no-deps", "--no-binary", "celery", "-d", str(PLACE), f"celery=={VERSION}"], check=True
    )
    subprocess.run([*pip, "install", "--target", str(PLACE / "needed"), *NEEDED], check=True)
    for kombu in KOMBUS:
        with tarfile.open(PLACE / f"celery-{VERSION}.tar.gz") as archive:
            archive.extractall(PLACE / kombu, filter="data")
        shutil.rmtree(_suite(kombu) / "celery")
    done.touch()


def _suite(kombu: str) -> Path:
    return PLACE / kombu / f"celery-{VERSION}"


def _kept(part: str, kombu: str, suffix: str) -> Path:
    return PLACE / f"{part}-{kombu}.{suffix}"


def _run(part: str, kombus: list[str], chosen: list[str]) -> None:
    """Leaves outcomes and logs behind, and says what pytest said last."""
    with contextlib.ExitStack() as stack:
        running = []
        for kombu in kombus:
            outcomes, log = (_kept(part, kombu, suffix) for suffix in ("outcomes", "log"))
            outcomes.write_text("")
            environment = stack.enter_context(_brokers(part)) if part != "unit" else {}
            running.append(
                subprocess.Popen(
                    [
                        *(sys.executable, "-m", "pytest", "-v", "--durations=30", "-p", "no:cacheprovider"),
                        *(word for plugin in PLUGINS for word in ("-p", plugin)),
                        *("--continue-on-collection-errors", *chosen),
                    ],
                    cwd=_suite(kombu),
                    env={
                        "HOME": str(PLACE),
                        "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"]),  # for celery
                        **environment,
                        SWITCHED: str(int(kombu == "ours")),
                        OUTCOMES: str(outcomes),
                        PATIENCE: str(TEST_PATIENCE),
                        "C_FORCE_ROOT": "1",  # workers start in containers, too
                        "EVENTLET_NO_GREENDNS": "yes",  # it imports trio, which is nothing that stock kombu does
                        "PYTHONPATH": os.pathsep.join([str(PLACE / "needed"), str(ROOT)]),
                        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                    },
                    stdout=stack.enter_context(log.open("w")),
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )
            stack.callback(_end, running[-1])
        ends = time.monotonic() + PART_PATIENCE
        for kombu, process in zip(kombus, running, strict=True):
            log = _kept(part, kombu, "log")
            if process.wait(ends - time.monotonic()) not in RAN_THROUGH:
                raise RuntimeError(f"Celery's tests did not run: see {log}")
            print(f"  {part}, {kombu}: {log.read_text().splitlines()[-1].strip('= ')}", flush=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    """It, and the workers it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def _brokers(part: str) -> Iterator[dict[str, str]]:
    """A broker and a Redis for results, nobody else's, as Celery's integration tests look for them."""
    directory = Path(tempfile.mkdtemp(prefix="ka-suite-"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        redis = RedisNode(directory / "redis")
        redis.start()
        stack.callback(redis.stop)
        url = redis.url(db=1)
        if part == "rabbitmq":
            rabbitmq = RabbitMQNode(directory / "rabbitmq")
            rabbitmq.start()
            stack.callback(rabbitmq.close)
            url = rabbitmq.url()
        yield {
            "TEST_BROKER": url,
            "TEST_BACKEND": redis.url(),
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": str(redis.port),
        }


def _passed(outcomes: Path, chosen: list[str]) -> set[str]:
    """The names of the chosen tests that pass.

    A test that is run again, as Celery's decorator ``flaky`` has it, begins with its setup anew.
    """
    good: dict[str, bool] = {}
    for line in outcomes.read_text().splitlines():
        name, when, outcome = json.loads(line)
        good[name] = outcome == "passed" and (when == "setup" or good.get(name, False))
    return {name for name, passed in good.items() if passed and name.startswith(tuple(chosen))}


if __name__ == "__main__":
    sys.exit(main())
