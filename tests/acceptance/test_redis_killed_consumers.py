"""No loss window: whenever a consumer process is killed, each message is in exactly one place."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.support.brokers import RedisNode
from tests.support.processes import wait_until

ROOT = Path(__file__).parents[2]
SEED = 4
ROUNDS = 200
MESSAGES = 30
"""Per round: what is published takes about as long as the consumer may live."""
LIFE = 0.05
"""Seconds that a consumer lives at most, from its start or from the first publish: more where a round takes longer."""
EVERYTHING = """
local found = redis.call('HVALS', 'unacked')
for _, raw in ipairs(redis.call('LRANGE', ARGV[1], 0, -1)) do found[#found + 1] = '[' .. raw .. ']' end
return found
"""
"""All messages of a queue, in one instant: kombu's unacknowledged ones, of all queues, and those in its list."""


@attrs.frozen
class Zygote:
    """A process that forks consumers."""

    process: subprocess.Popen[str]

    def fork(self, queue: str) -> int:
        """Start a consumer; returns its process id."""
        assert self.process.stdin is not None
        print(queue, file=self.process.stdin, flush=True)
        return int(self.hear())

    def hear(self) -> str:
        """The next line that it or its consumer says."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the zygote is gone"
        return line.strip()

    def last_words(self) -> list[str]:
        """What its consumer said until it was killed."""
        return [line for line in iter(self.hear, "ended") if line != "ready"]


@contextmanager
def zygote(library: str, url: str) -> Iterator[Zygote]:
    """One that has imported a library."""
    with subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "tests.acceptance.redis_zygote", library, url],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Zygote(process)
        finally:
            process.kill()


@attrs.frozen
class Balance:
    """Where the messages of one round are after the kill."""

    received: Counter[str]
    stored: Counter[str]

    @property
    def lost(self) -> list[str]:
        published = {str(number) for number in range(MESSAGES)}
        return sorted(published - self.received.keys() - self.stored.keys(), key=int)

    @property
    def doubled(self) -> list[str]:
        """Stored twice: both would be delivered."""
        return [number for number, times in self.stored.items() if times > 1]


def stored(node: RedisNode, queue: str) -> Counter[str]:
    """The numbers of the messages of a queue that the server has, in its list or as unacknowledged."""
    found: Counter[str] = Counter()
    for text in node.ask("EVAL", EVERYTHING, 0, queue):
        envelope = json.loads(text)[0]
        if envelope["properties"]["delivery_info"]["routing_key"] == queue:
            found[base64.b64decode(envelope["body"]).decode()] += 1
    return found


def rounds(library: str, node: RedisNode, dice: random.Random) -> Iterator[Balance]:
    """Publish and kill, again and again.

    Every other consumer is ready before the first publish; the others find messages there, and are killed while
    they connect, too.
    """
    peer = import_module(library)
    options = {"confirm_publish": True} if library == "kombu_actors" else {}
    with zygote(library, node.url()) as mother, peer.Connection(node.url(), transport_options=options) as connection:
        producer: Any = connection.Producer()
        producer.publish("to connect", routing_key="nobody")
        others = len(node.clients())
        life = max(LIFE, 1.5 * whole_round(library, peer, mother, connection))
        for number in range(ROUNDS):
            queue = f"{library}-{number}"
            peer.Queue(queue)(connection.default_channel).declare()
            if number % 2:
                producer.publish(0, routing_key=queue)
            pid = mother.fork(queue)
            if number % 2 == 0:
                assert mother.hear() == "ready"
            killing = threading.Timer(dice.uniform(0, life), os.kill, (pid, signal.SIGKILL))
            killing.start()
            for message in range(number % 2, MESSAGES):
                producer.publish(message, routing_key=queue)
            received = Counter(mother.last_words())
            killing.join()
            # What it had sent before is carried out now, or never.
            wait_until(lambda: len(node.clients()) <= others, timeout=10, waiting_for="the server to notice")
            yield Balance(received, stored(node, queue))


def whole_round(library: str, peer: Any, mother: Zygote, connection: Any) -> float:
    """Seconds that a round takes which nobody's end cuts short, on this machine as it is now."""
    queue = f"{library}-whole"
    peer.Queue(queue)(connection.default_channel).declare()
    pid = mother.fork(queue)
    assert mother.hear() == "ready"
    began = time.monotonic()
    for message in range(MESSAGES):
        connection.Producer().publish(message, routing_key=queue)
    while mother.hear() != str(MESSAGES - 1):
        pass
    taken = time.monotonic() - began
    os.kill(pid, signal.SIGKILL)
    mother.last_words()
    return taken


@pytest.mark.slow
def test_a_killed_consumer_loses_nothing_whenever_it_is_killed(
    redis_server: RedisNode, capsys: pytest.CaptureFixture[str]
) -> None:
    """200 rounds of 30 messages and a SIGKILL within 50 ms: after each kill, what was received and what is stored is
    what was published, and nothing is stored twice.  Stock kombu's losses in the same rounds are printed beside it."""
    balances: dict[str, list[Balance]] = {}
    for library in ("kombu_actors", "kombu"):
        redis_server.flush()
        balances[library] = list(rounds(library, redis_server, random.Random(SEED)))
    redis_server.wait_until_no_clients()
    with capsys.disabled():
        print(f"\n  {ROUNDS} kills (seed {SEED}), {MESSAGES} messages each:")
        for library, seen in balances.items():
            lossy = [balance for balance in seen if balance.lost]
            print(
                f"  {library}: {sum(len(balance.received) for balance in seen)} received,"
                f" {sum(len(balance.stored) for balance in seen)} stored,"
                f" {sum(len(balance.lost) for balance in lossy)} lost in {len(lossy)} rounds"
            )
    ours = balances["kombu_actors"]
    assert {number: balance.lost for number, balance in enumerate(ours) if balance.lost} == {}
    assert {number: balance.doubled for number, balance in enumerate(ours) if balance.doubled} == {}
    # The kills fell everywhere: before anything was received, amid, and after all of it.
    heights = {len(balance.received) for balance in ours}
    assert {0, MESSAGES} < heights
