"""Workers of ours, of stock kombu and of Celery on a Redis server that refuses, and that are killed and stopped.

``python -m soak.redis_faults [--seconds 300] [--seed 0]``.  Three queues: ``ours`` is consumed by our workers only,
``mixed`` by ours and a stock one, ``celery`` by Celery's.  A publisher of ours fills them, waiting for each confirm.
Faults come at random, and end; then all must drain.  Checked, for ``ours`` without exception:

* every confirmed message was handled;
* none that was acknowledged comes again, and none is handled twice, unless its holder was killed, stopped, or cut off
  with the message in its hands.

Stock kombu loses what it has popped and not recorded when it is killed, cut off or refused just then; on the queues
that it consumes from, so many may be missing at most.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import attrs
import redis

from kombu_actors import Connection
from tests.support.processes import wait_until
from tests.support.redis_server import RedisNode

from ._redis_celery import TASK
from ._redis_diary import Entry, read

QUEUES: Final = ("ours", "mixed", "celery")
PACE: Final = 0.02
"""Seconds between two messages."""
LULL: Final = (0.3, 1.5)
"""Seconds between two faults."""
LASTS: Final = (0.3, 2.5)
"""Seconds that a server's fault lasts."""
STOPS: Final = (0.5, 7.0)
"""Seconds that a worker is suspended: for less and for more than a lease (4 s)."""
DRAINS: Final = 60.0
"""Seconds until all must have been handled, after the last fault: stock's abandoned ones come back after 8."""
HARMED: Final = 6.0
"""Seconds around a harm in which its worker's messages may be given to others: a lease, and some."""


class Harm(NamedTuple):
    """What was done to a worker, and until when."""

    begun: float
    ended: float
    pid: int
    kind: str


@attrs.define(eq=False)
class Crew:
    """The workers: processes that are replaced when they are killed."""

    url: str
    folder: Path
    hands: dict[str, subprocess.Popen[bytes]] = attrs.field(factory=dict)
    harms: list[Harm] = attrs.field(factory=list)
    stock_harmed: int = 0

    def hire(self, name: str) -> None:
        kind, _, queue = name.partition(" ")
        number = len(list(self.folder.glob("*.diary")))
        diary = str(self.folder / f"{number}-{kind}.diary")
        Path(diary).touch()
        if kind == "celery":
            command = ["-m", "celery", "-A", "soak._redis_celery", "worker", "--pool", "solo", "--loglevel", "ERROR"]
        else:
            command = ["-m", "soak._redis_hand", kind, self.url, queue.split()[0], diary]
        environment = {**os.environ, "SOAK_URL": self.url, "SOAK_DIARY": diary}
        with (self.folder / f"{number}-{kind}.log").open("wb") as log:
            self.hands[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", sys.executable, *command], env=environment, stdout=log, stderr=log
            )

    def harm(self, name: str, kind: str, begun: float) -> None:
        self.harms.append(Harm(begun, time.monotonic(), self.hands[name].pid, kind))
        self.stock_harmed += name.startswith(("kombu ", "celery"))

    def kill(self, name: str) -> None:
        begun = time.monotonic()
        self.hands[name].kill()
        self.hands[name].wait()
        self.harm(name, "kill", begun)
        self.hire(name)

    def suspend(self, name: str, seconds: float) -> None:
        begun = time.monotonic()
        os.kill(self.hands[name].pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(self.hands[name].pid, signal.SIGCONT)
        self.harm(name, "stop", begun)

    def replace_the_dead(self) -> None:
        """Stock workers may end over a fault."""
        for name, hand in list(self.hands.items()):
            if hand.poll() is not None:
                self.harm(name, "ended", time.monotonic())
                self.hire(name)

    def begin_anew(self) -> None:
        """Those of stock kombu's, as one that has lost its consumers says nothing of it."""
        for name in [name for name in self.hands if not name.startswith("kombu_actors ")]:
            self.kill(name)

    def dismiss(self) -> None:
        for hand in self.hands.values():
            hand.kill()
            hand.wait()


@attrs.define(eq=False)
class Faults:
    """What is done to server and workers, one after the other."""

    node: RedisNode
    directory: Path
    """The server's."""
    crew: Crew
    dice: random.Random
    done: dict[str, int] = attrs.field(factory=dict)

    def play(self, until: float) -> None:
        acts: list[Callable[[], None]] = [
            *(self.misconf, self.noreplicas, self.busy, self.oom),
            *(self.cut, self.cut, self.kill, self.stop),
        ]
        while time.monotonic() < until:
            time.sleep(self.dice.uniform(*LULL))
            act = self.dice.choice(acts)
            self.done[act.__name__] = self.done.get(act.__name__, 0) + 1
            act()
            self.crew.replace_the_dead()

    def _last(self) -> None:
        time.sleep(self.dice.uniform(*LASTS))
        self.crew.stock_harmed += 10  # each of stock's workers may just have popped what it then can't record

    def misconf(self) -> None:
        """A snapshot that can't be written."""
        obstacle = self.directory / "dump.rdb"
        shutil.rmtree(obstacle, ignore_errors=True)
        obstacle.unlink(missing_ok=True)
        (obstacle / "x").mkdir(parents=True)
        self.node.ask("CONFIG", "SET", "save", "3600 1")
        self._snapshot("err")
        self._last()
        shutil.rmtree(obstacle)
        self._snapshot("ok")
        self.node.ask("CONFIG", "SET", "save", "")

    def _snapshot(self, outcome: str) -> None:
        self.node.ask("BGSAVE")
        wait_until(
            lambda: f"rdb_last_bgsave_status:{outcome}" in str(self.node.ask("INFO", "persistence")),
            timeout=20,
            waiting_for="the snapshot",
        )

    def noreplicas(self) -> None:
        self.node.ask("CONFIG", "SET", "min-replicas-to-write", 1)
        self._last()
        self.node.ask("CONFIG", "SET", "min-replicas-to-write", 0)

    def oom(self) -> None:
        self.node.ask("CONFIG", "SET", "maxmemory", 1)
        self._last()
        self.node.ask("CONFIG", "SET", "maxmemory", 0)

    def busy(self) -> None:
        self.node.ask("CONFIG", "SET", "lua-time-limit", 50)
        script = threading.Thread(target=self._run_on)
        script.start()
        self._last()
        with redis.Redis(port=self.node.port) as client, suppress(redis.exceptions.ResponseError):
            client.script_kill()
        script.join()
        self.node.ask("CONFIG", "SET", "lua-time-limit", 5000)

    def _run_on(self) -> None:
        with redis.Redis(port=self.node.port) as client, suppress(redis.exceptions.ResponseError):
            client.eval("while true do end", 0)

    def cut(self) -> None:
        """One or more connections, of whomever."""
        with redis.Redis(port=self.node.port) as client:
            clients: list[dict[str, str]] = client.client_list()
            for each in self.dice.sample(clients, min(len(clients), self.dice.randint(1, 3))):
                begun = time.monotonic()
                self.node.ask("CLIENT", "KILL", "ID", each["id"])
                if each["name"].startswith("hand-"):
                    pid = int(each["name"].removeprefix("hand-"))
                    self.crew.harms.append(Harm(begun, time.monotonic(), pid, "cut"))
                else:
                    self.crew.stock_harmed += 1

    def kill(self) -> None:
        self.crew.kill(self.dice.choice([*self.crew.hands]))

    def stop(self) -> None:
        self.crew.suspend(self.dice.choice([*self.crew.hands]), self.dice.uniform(*STOPS))


def publish(url: str, until: float, confirmed: dict[str, set[int]]) -> None:
    """Numbered messages to each queue in turn; those whose confirm has come are noted."""
    options = {"confirm_publish": True, "client_name": f"hand-{os.getpid()}"}
    with Connection(url, transport_options=options) as connection:
        producer = connection.Producer()
        number = 0
        while time.monotonic() < until:
            number += 1
            queue = QUEUES[number % len(QUEUES)]
            body: Any = number
            headers: dict[str, Any] = {}
            if queue == "celery":
                body = [[number], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
                headers = {"lang": "py", "task": TASK, "id": str(number), "argsrepr": "", "kwargsrepr": ""}
            try:
                producer.publish(
                    body,
                    routing_key=queue,
                    headers=headers,
                    correlation_id=str(number),
                    timeout=10,
                    retry=True,
                    retry_policy={"max_retries": 100, "interval_start": 0.1, "interval_max": 0.1},
                )
            except Exception as error:
                print(f"  publish of {number}: {type(error).__name__}", flush=True)
            else:
                confirmed[queue].add(number)
            time.sleep(PACE)


def excused(entries: list[Entry], harms: list[Harm]) -> bool:
    """Whether a holder of this message was harmed while it had it."""
    return any(
        harm.pid == entry.pid and harm.begun - HARMED <= entry.at <= harm.ended + HARMED
        for entry in entries
        for harm in harms
    )


def judge(entries: list[Entry], confirmed: set[int], harms: list[Harm]) -> tuple[list[int], list[int], list[int], int]:
    """Of one queue: the lost, those handled twice, those that came back after their ack, and how many were excused."""
    histories: dict[int, list[Entry]] = {}
    for entry in entries:
        if entry.number in confirmed and entry.what in ("got", "acked", "ran"):
            histories.setdefault(entry.number, []).append(entry)
    lost = sorted(confirmed - histories.keys())
    twice, back, forgiven = [], [], 0
    for number, history in histories.items():
        acked = [entry.at for entry in history if entry.what == "acked"]
        handled_twice = len(acked) > 1
        came_back = bool(acked) and any(entry.what == "got" and entry.at > acked[0] for entry in history)
        if not (handled_twice or came_back):
            continue
        if excused(history, harms):
            forgiven += 1
        elif handled_twice:
            twice.append(number)
        else:
            back.append(number)
    return lost, twice, back, forgiven


def left(client: Any) -> int:
    """Messages that are somewhere still."""
    return int(sum(client.llen(queue) for queue in QUEUES) + client.hlen("unacked"))


def soak(folder: Path, seconds: float, seed: int) -> tuple[bool, str]:
    """Whether all promises were kept, and the report."""
    node = RedisNode(folder / "redis")
    node.start()
    diaries = folder / "diaries"
    diaries.mkdir()
    crew = Crew(node.url(), diaries)
    faults = Faults(node, folder / "redis", crew, random.Random(seed))
    confirmed: dict[str, set[int]] = {queue: set() for queue in QUEUES}
    try:
        for name in ("kombu_actors ours a", "kombu_actors ours b", "kombu_actors mixed", "kombu mixed", "celery"):
            crew.hire(name)
        with Connection(node.url()) as connection:
            for queue in QUEUES[:2]:
                connection.SimpleQueue(queue).close()
        until = time.monotonic() + seconds
        publisher = threading.Thread(target=publish, args=(node.url(), until, confirmed), daemon=True)
        publisher.start()
        faults.play(until)
        publisher.join()
        crew.begin_anew()
        with redis.Redis(port=node.port) as client:
            with suppress(TimeoutError):
                wait_until(lambda: not left(client), timeout=DRAINS, waiting_for="the rest")
            time.sleep(1.0)  # their last words
            remaining = left(client)
    finally:
        crew.dismiss()
        node.stop()
    entries = list(read(diaries))
    good, parts = remaining == 0, [f"{seconds:.0f} s, seed {seed}, {json.dumps(faults.done)}; {remaining} left"]
    for queue in QUEUES:
        lost, twice, back, forgiven = judge(entries, confirmed[queue], crew.harms)
        bearable = 0 if queue == "ours" else crew.stock_harmed
        good = good and len(lost) <= bearable and (queue != "ours" or not (twice or back))
        parts.append(
            f"{queue}: {len(confirmed[queue])} confirmed, lost {lost[:10] or 0}, twice {twice[:10] or 0},"
            f" back {back[:10] or 0}, {forgiven} again for a harmed holder"
        )
    return good, "; ".join(parts)


def main() -> int:
    """Print the report as the last line; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m soak.redis_faults", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ka-") as directory:
        good, report = soak(Path(directory), options.seconds, options.seed)
    print(report)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
