"""What docs/celery.md promises, measured on kombu_actors and on stock kombu: ``python -m soak.celery_promises``.

Each measurement has brokers, a worker and a client of its own, and prints a line for each of both.  Words choose:
``python -m soak.celery_promises deaf visibility ours redis``.  Nothing is judged but ours: 1 when it breaks a promise.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

if TYPE_CHECKING:
    from tests.celery.diary import Diary
    from tests.support.brokers import RabbitMQNode, RedisNode
    from tests.support.processes import ServerProcess
    from tests.support.proxy import FaultProxy

KOMBUS: Final = ("ours", "stock")
BROKERS: Final = ("rabbitmq", "redis")
GIVEN_UP: Final = 60.0
"""Seconds after which a task is called lost: several times what any recovery here takes."""
START: Final = 60.0
"""Seconds for a worker to be ready."""
ROUNDS: Final = 5
QUICK: Final = {"visibility_timeout": 3, "unacked_restore_throttle": 1}
"""What takes stock kombu an hour, and looking for it a hundred seconds, takes it ten."""


@attrs.define(kw_only=True)
class Place:
    """A broker, a breakable way to it, one worker, and the application for this process, the client."""

    node: RabbitMQNode | RedisNode
    proxy: FaultProxy
    worker: ServerProcess
    diary: Diary
    tasks: Any

    def ended(self, names: list[str], within: float = GIVEN_UP) -> float | None:
        """Seconds until all of these had ended; None when they hadn't in time."""
        began, wanted = time.monotonic(), set(names)
        while time.monotonic() - began < within:
            if wanted <= set(self.diary.counts("")):
                return time.monotonic() - began
            time.sleep(0.02)
        return None

    def repeated(self) -> int:
        """How many tasks have begun more than once."""
        return sum(count > 1 for count in self.diary.counts("", "began").values())


def deaf(place: Place) -> tuple[bool, str]:
    """An idle worker's connections are reset; seconds until the next task has ended."""
    waits = []
    for number in range(ROUNDS):
        time.sleep(0.5)  # the one before is acknowledged
        place.proxy.reset()
        name = f"deaf{number}"
        place.tasks.early.delay(name)
        waits.append(place.ended([name]))
    heard = [wait for wait in waits if wait is not None]
    good = len(heard) == ROUNDS
    return good, f"{len(heard)} of {ROUNDS} heard, {_spread(heard)}; {place.repeated()} run twice"


def deaf_under_load(place: Place) -> tuple[bool, str]:
    """The same while tasks are under way; seconds until all have ended."""
    names = [f"load{number}" for number in range(40)]
    for name in names:
        place.tasks.early.delay(name, 0.2)
    _until(lambda: len(place.diary.counts("")) >= 4)
    place.proxy.reset()
    return _all_of(place, names)


def broker_killed(place: Place) -> tuple[bool, str]:
    """The broker is killed while tasks are under way, and started again; seconds until all have ended."""
    names = [f"kill{number}" for number in range(100)]
    for name in names:
        place.tasks.early.delay(name, 0.05)
    _until(lambda: len(place.diary.counts("")) >= 10)
    place.node.kill9()
    place.node.start()
    return _all_of(place, names)


def visibility(place: Place) -> tuple[bool, str]:
    """Tasks of 12 s, acknowledged late, with a visibility timeout of 3 s."""
    names = [f"long{number}" for number in range(4)]
    for name in names:
        place.tasks.late.delay(name, 12.0)
    place.ended(names)
    time.sleep(8.0)  # what would come again comes
    begun = sum(place.diary.counts("", "began").values())
    return begun == len(names), f"{len(names)} tasks were run {begun} times"


def heartbeats(place: Place) -> tuple[bool, str]:
    """A solo worker's task, acknowledged late, takes five times the heartbeat (2 s)."""
    place.tasks.late.delay("slow", 10.0)
    place.tasks.early.delay("next")
    took = place.ended(["slow", "next"])
    begun = place.diary.counts("", "began")["slow"]
    time.sleep(12.0 if begun == 1 else 0.0)
    begun = place.diary.counts("", "began")["slow"]
    return begun == 1 and took is not None, f"the task was run {begun} times"


def unreachable(place: Place) -> tuple[bool, str]:
    """``delay()`` while the broker is down, and while it comes back after two seconds."""
    place.proxy.refuse()
    place.proxy.reset()
    began = time.monotonic()
    try:
        place.tasks.early.delay("never")
        said = "accepted"
    except Exception as error:
        said = type(error).__name__
    told = f"{said} after {time.monotonic() - began:.1f} s"
    place.proxy.heal()
    _until(lambda: place.worker.running)
    place.tasks.early.delay("after")
    took = place.ended(["after"])
    lost = said == "accepted" and place.ended(["never"], 10.0) is None
    return took is not None and not lost, f"{told}; with the broker back, a task ended{_after(took)}"


MEASUREMENTS: Final[dict[str, tuple[Callable[[Place], tuple[bool, str]], tuple[str, ...], str, dict[str, Any]]]] = {
    "deaf": (deaf, BROKERS, "prefork", {}),
    "deaf-under-load": (deaf_under_load, BROKERS, "prefork", {}),
    "broker-killed": (broker_killed, BROKERS, "prefork", {}),
    "visibility": (visibility, ("redis",), "prefork", {"broker_transport_options": QUICK}),
    "heartbeats": (heartbeats, ("rabbitmq",), "solo", {"broker_heartbeat": 2}),
    "unreachable": (unreachable, BROKERS, "prefork", {}),
}
"""What is measured, on which brokers, in which pool, with which settings."""


def main() -> int:
    """Measure what is asked for; 1 when ours broke a promise."""
    parser = argparse.ArgumentParser(prog="python -m soak.celery_promises", description=__doc__.partition("\n")[0])
    parser.add_argument("words", nargs="*", metavar="word", help=", ".join([*MEASUREMENTS, *KOMBUS, *BROKERS]))
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        return _measure(*options.words)
    words = set(options.words)
    names, kombus, brokers = (words & set(kind) or set(kind) for kind in (MEASUREMENTS, KOMBUS, BROKERS))
    broken = 0
    for name, (_, on, _, _) in MEASUREMENTS.items():
        for broker in on:
            for kombu in KOMBUS:
                if name in names and broker in brokers and kombu in kombus:
                    command = (sys.executable, "-m", "soak.celery_promises", "--here", name, broker, kombu)
                    done = subprocess.run(command, capture_output=True, text=True, check=False)
                    report = (done.stdout.splitlines() or [f"ended with {done.returncode}: {done.stderr[-500:]}"])[-1]
                    print(f"{name:16} {broker:9} {kombu:6} {report}", flush=True)
                    broken += bool(done.returncode) and kombu == "ours"
    print(f"Celery's promises: {broken} broken")
    return int(bool(broken))


def _measure(name: str, broker: str, kombu: str) -> int:
    """One measurement, in this process; its report is the last line."""
    if kombu == "ours":
        import_module("kombu_actors.celery").install()
    from tests.celery.diary import Diary
    from tests.celery.ground import celery_command
    from tests.support.brokers import RabbitMQNode, RedisNode
    from tests.support.processes import ServerProcess
    from tests.support.proxy import FaultProxy

    story, _, pool, settings = MEASUREMENTS[name]
    directory = Path(tempfile.mkdtemp(prefix="ka-"))
    rabbitmq = broker == "rabbitmq"
    node = RabbitMQNode(directory / "broker") if rabbitmq else RedisNode(directory / "broker", durable=True)
    worker: ServerProcess | None = None
    try:
        node.start()
        proxy, diary = FaultProxy(node.port), Diary(directory / "diary")
        url = f"amqp://guest:guest@127.0.0.1:{proxy.port}//" if rabbitmq else f"redis://127.0.0.1:{proxy.port}/0"
        common = {"broker_url": url, "task_ignore_result": True, "broker_connection_retry_on_startup": True}
        environment = {"PROMISED_SETTINGS": json.dumps(common | settings), "PROMISED_DIARY": str(diary.path)}
        os.environ.update(environment)
        options = ("worker", "-P", pool, "-c", "2", "-l", "INFO")
        made = worker = ServerProcess(
            [*celery_command(kombu == "ours"), "-A", "soak._celery_promised", *options],
            directory=directory,
            environment={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[1]), **environment},
            is_serving=lambda: " ready." in made.output,
            start_timeout=START,
        )
        worker.start()
        tasks = import_module("soak._celery_promised")
        good, report = story(Place(node=node, proxy=proxy, worker=worker, diary=diary, tasks=tasks))
        print(report)
        if not good:
            print(worker.output[-5000:], file=sys.stderr)
        return int(not good)
    finally:
        if worker is not None and worker.running:
            worker.kill9()
        with suppress(Exception):  # it may be down
            node.kill9()
        shutil.rmtree(directory, ignore_errors=True)


def _until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + GIVEN_UP
    while not condition() and time.monotonic() < ends:
        time.sleep(0.02)


def _all_of(place: Place, names: list[str]) -> tuple[bool, str]:
    """Whether all of these end; if not, one more tells lost tasks from a deaf worker."""
    took = place.ended(names)
    report = f"{len(set(names) & set(place.diary.counts('')))} of {len(names)} done{_after(took)}"
    if took is None:
        place.tasks.early.delay("another")
        report += f", another one then{_after(place.ended(['another']))}"
    return took is not None, f"{report}; {place.repeated()} run twice"


def _after(seconds: float | None) -> str:
    return f" after {seconds:.1f} s" if seconds is not None else f" not in {GIVEN_UP:.0f} s"


def _spread(waits: list[float]) -> str:
    return f"after {statistics.median(waits):.1f} s ({min(waits):.1f}-{max(waits):.1f})" if waits else "never"


if __name__ == "__main__":
    sys.exit(main())
