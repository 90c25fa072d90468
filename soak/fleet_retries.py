"""Kill -9 of broker and worker while a fleet retries: ``python -m soak.fleet_retries --transport amqp --rounds 50``.

Each message is to be handled or dead-lettered exactly as its kind says, and nothing twice that no kill explains.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import attrs
import trio

from kombu_actors.broker import Broker, QueueSpec, open_broker
from kombu_actors.errors import NotFound
from kombu_actors.fleet._delays import delay_near, delay_of
from kombu_actors.fleet._headers import ATTEMPT
from soak._fleet_worker import DELAYS, SNOOZE, kind_of
from tests.support.brokers import RabbitMQNode, RedisNode

MESSAGES = 120
WORKER_KILLS = 2
SPAN = 3.0
"""Seconds from the first handling within which everything is killed: as long as the retries take."""
PATIENCE = 90.0
"""Seconds for all to be done after that, a restart of RabbitMQ on a busy machine included."""
EXPECTED = {"at once": {1}, "second attempt": {1, 2}, "third attempt": {1, 2, 3}, "never": {1, 2, 3}}
"""The attempts that a message of a kind takes; of all others one."""
DEAD = {"never": 3, "rejected": 1}
"""The kinds that end as dead letters, after so many attempts."""

Node = RabbitMQNode | RedisNode


def noted(path: Path) -> list[list[str]]:
    """What the workers have noted, by line."""
    return [line.split() for line in path.read_text().splitlines()]


@attrs.define
class History:
    """What happened in one round."""

    kills: list[float] = attrs.field(factory=list)
    begun: dict[int, list[tuple[float, int]]] = attrs.field(factory=lambda: defaultdict(list))
    done: dict[int, list[float]] = attrs.field(factory=lambda: defaultdict(list))
    dead: dict[int, list[int]] = attrs.field(factory=lambda: defaultdict(list))
    """The attempts on each dead letter."""
    repeated: int = 0
    """Handlings that a kill explains."""

    def read(self, path: Path) -> None:
        """Take in what the workers have noted."""
        for when, what, number, attempt in noted(path):
            if what == "begin":
                self.begun[int(number)].append((float(when), int(attempt)))
            elif what == "done":
                self.done[int(number)].append(float(when))

    def check(self) -> list[str]:
        """What is wrong, in sentences; counts what is repeated."""
        wrong = []
        for number in range(MESSAGES):
            wrong += [f"message {number} ({kind_of(number)}): {text}" for text in self._check(number)]
        return wrong

    def _check(self, number: int) -> Iterator[str]:
        kind, begun, done, dead = kind_of(number), self.begun[number], self.done[number], self.dead[number]
        attempts = {attempt for _, attempt in begun}
        if kind in DEAD:
            if not dead:
                yield f"lost: not among the dead letters; begun {begun}"
            if done:
                yield f"handled {len(done)} times, and was to fail"
            if set(dead) - {DEAD[kind]}:
                yield f"dead after {dead} attempts instead of {DEAD[kind]}"
        else:
            if not done:
                yield f"lost: never handled; begun {begun}, dead {dead}"
            if dead:
                yield f"dead after {dead} attempts, and was to be handled"
        if attempts != EXPECTED.get(kind, {1}):
            yield f"attempts {sorted(attempts)} were made"
        yield from self._check_repeats(kind, begun, max(len(done), len(dead)))

    def _check_repeats(self, kind: str, begun: list[tuple[float, int]], ends: int) -> Iterator[str]:
        """A message comes twice only where a kill has cost an ack, some time after its first handling began."""
        if not begun:
            return
        first = begun[0][0]
        seen: Counter[int] = Counter()
        for when, attempt in begun:
            seen[attempt] += 1
            if seen[attempt] > 1 and kind != "snoozed":
                self.repeated += 1
                if not any(first - 1 <= kill <= when for kill in self.kills):
                    yield f"attempt {attempt} was made again at {when}, and nothing had been killed"
        if ends > 1 and not any(kill >= first - 1 for kill in self.kills):
            yield f"ended {ends} times, and nothing was killed"


@attrs.define
class Worker:
    """The worker process, started again whenever it ends before it is told to."""

    command: list[str]
    process: trio.Process | None = None
    ending: bool = False

    async def keep(self) -> None:
        """Have it run; a worker that starts while the broker is away ends with status 3."""
        while not self.ending:
            self.process = await trio.lowlevel.open_process(self.command)
            await self.process.wait()

    def serves(self, path: Path) -> bool:
        """Whether the one that runs now has said so."""
        ups = [int(pid) for _, what, pid, _ in noted(path) if what == "up"]
        return self.process is not None and self.process.pid in ups

    def kill(self) -> None:
        """With signal 9."""
        if self.process is not None:
            self.process.kill()

    def drain(self) -> None:
        """With SIGTERM, for good."""
        self.ending = True
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)


async def play(node: Node, seed: int, directory: Path) -> History:
    """One round; raises ``AssertionError`` with what is wrong."""
    dice, history = random.Random(seed), History()
    queue, path, certificate = f"work-{seed}", directory / f"history-{seed}", directory / f"certificate-{seed}"
    path.touch()
    async with open_broker(node.url()) as broker:
        await broker.declare(QueueSpec(name=queue))
        for number in range(MESSAGES):
            order = {"number": number, "published": time.time()}
            await broker.publish(order, routing_key=queue, message_id=str(number))
        command = [sys.executable, "-m", "soak._fleet_worker", node.url(), queue, str(path), str(certificate)]
        worker = Worker(command)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(worker.keep)
                with trio.fail_after(PATIENCE):
                    while not noted(path):  # noqa: ASYNC110  # another process writes it
                        await trio.sleep(0.01)
                async with trio.open_nursery() as killing:
                    for _ in range(WORKER_KILLS):
                        killing.start_soon(_kill_worker, worker, history, dice.uniform(0, SPAN))
                    killing.start_soon(_kill_broker, node, history, dice.uniform(0, SPAN))
                await _wait_until_all_is_done(broker, queue, path, worker)
                worker.drain()
        finally:
            worker.kill()
        history.read(path)
        await _read_dead_letters(broker, f"{queue}.dead", history)
        await broker.delete_queue(f"{queue}.dead")
        left = await _waiting(broker, queue)
        await broker.delete_queue(queue)
    wrong = history.check()
    if left:
        wrong.append(f"{left} messages still wait")
    if not json.loads(certificate.read_text())["balanced"]:
        wrong.append(f"the certificate's sums are wrong: {certificate.read_text()}")
    assert not wrong, f"seed {seed}: " + "\n".join(wrong)
    return history


async def _kill_worker(worker: Worker, history: History, after: float) -> None:
    await trio.sleep(after)
    history.kills.append(time.time())
    worker.kill()


async def _kill_broker(node: Node, history: History, after: float) -> None:
    await trio.sleep(after)
    history.kills.append(time.time())
    await trio.to_thread.run_sync(node.kill9)
    await node.start_async()


async def _waiting(broker: Broker, queue: str) -> int:
    """Messages in the queue, and in the delays."""
    delays = [*map(delay_of, DELAYS), delay_near(SNOOZE)]
    return sum([await _ready(broker, name) for name in (queue, *(delay.name for delay in delays))])


async def _ready(broker: Broker, queue: str) -> int:
    """Messages in one queue; it may not have been needed yet."""
    try:
        return (await broker.inspect_queue(queue, timeout=PATIENCE)).messages
    except NotFound:
        return 0


async def _wait_until_all_is_done(broker: Broker, queue: str, path: Path, worker: Worker) -> None:
    """Until each message has been handled or is dead, none waits any more, and a worker serves; twice in a row."""
    dead_kinds = sum(kind_of(number) in DEAD for number in range(MESSAGES))
    calm = 0
    with trio.move_on_after(PATIENCE):
        while calm < 2:
            await trio.sleep(0.3)
            done = {number for _, what, number, _ in noted(path) if what == "done"}
            dead = await _ready(broker, f"{queue}.dead")
            enough = len(done) >= MESSAGES - dead_kinds and dead >= dead_kinds
            calm = calm + 1 if enough and worker.serves(path) and not await _waiting(broker, queue) else 0


async def _read_dead_letters(broker: Broker, name: str, history: History) -> None:
    while (message := await broker.get(name)) is not None:
        order = message.payload_as(dict)
        attempts = message.headers[ATTEMPT]
        assert isinstance(attempts, int)
        history.dead[int(order["number"])].append(attempts)
        message.ack()


@contextmanager
def started(transport: str, directory: Path) -> Iterator[Node]:
    """A broker that may be killed, and keeps what it has confirmed."""
    node: Node = RabbitMQNode(directory) if transport == "amqp" else RedisNode(directory, durable=True)
    try:
        node.start()
        yield node
    finally:
        if isinstance(node, RabbitMQNode):
            node.close()
        elif node.running:
            node.kill9()


def run(transport: str, rounds: int, first: int) -> tuple[int, int]:
    """Play rounds on one broker; returns how many failed, and how many handlings kills have repeated."""
    failed = repeated = 0
    with tempfile.TemporaryDirectory(prefix="ka-") as name, started(transport, Path(name) / "node") as node:
        for seed in range(first, first + rounds):
            began = time.monotonic()
            try:
                history = trio.run(partial(play, node, seed, Path(name)))
            except Exception as error:
                failed += 1
                print(f"{transport} {seed}: FAILED: {error!r}", flush=True)
                traceback.print_exception(error)
                if not node.running:
                    node.start()
            else:
                repeated += history.repeated
                took = time.monotonic() - began
                print(f"{transport} {seed}: right in {took:.1f} s, {history.repeated} repeated", flush=True)
    return failed, repeated


def main() -> int:
    """All rounds; 1 when one failed."""
    parser = argparse.ArgumentParser(prog="python -m soak.fleet_retries")
    parser.add_argument("--transport", choices=("amqp", "redis"), action="append")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--first", type=int, default=0, help="the first round's seed")
    chosen = parser.parse_args()
    report, status = [], 0
    for transport in chosen.transport or ("amqp", "redis"):
        failed, repeated = run(transport, chosen.rounds, chosen.first)
        status |= bool(failed)
        messages = chosen.rounds * MESSAGES
        report.append(f"{transport}: {messages} messages in {chosen.rounds} rounds, {failed} rounds failed")
        report[-1] += f", {repeated} handlings repeated by {chosen.rounds * (WORKER_KILLS + 1)} kills"
    print("; ".join(report))
    return status


if __name__ == "__main__":
    sys.exit(main())
