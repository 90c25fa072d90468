"""``open_sync``: one client for all threads of a process, its forked children, and greenlets."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import trio

from kombu_actors.broker import Broker, QueueSpec
from kombu_actors.errors import BrokerUnreachable, ConnectionClosed, DeadlineExceeded, NotFound, PublishReturned
from kombu_actors.fleet._address import Address
from kombu_actors.fleet._blocking import SyncClient, open_sync_client
from kombu_actors.fleet.errors import RemoteError
from kombu_actors.supervisors import ChildState
from tests.conformance.native import PATIENCE, payloads
from tests.conformance.realms import Realm
from tests.conformance.test_recovery import lose_session
from tests.fleet.test_client import address, serving

in_thread = trio.to_thread.run_sync
REPOSITORY = Path(__file__).parents[2]


def runtimes() -> int:
    """How many runtime threads there are."""
    return sum(thread.name == "kombu_actors" for thread in threading.enumerate())


def publish_and_ask(client: SyncClient, number: int) -> tuple[str, object]:
    """Both halves of what a client does, in a thread of its own."""
    return client.publish("jobs", number), client.request("double", number, timeout=PATIENCE)


async def test_many_threads_share_one_client(realm: Realm, broker: Broker) -> None:
    """Each gets its own confirms and replies; nothing is connected before the first call; the end leaves no thread."""
    await broker.declare(QueueSpec(name="jobs"))
    before = await in_thread(realm.connections)
    client = open_sync_client(address(realm))
    assert await in_thread(realm.connections) == before
    done: dict[int, tuple[str, object]] = {}

    async def use(number: int) -> None:
        done[number] = await in_thread(publish_and_ask, client, number)

    async with serving(realm):
        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(use, number)
        assert {number: answer for number, (_, answer) in done.items()} == {number: 2 * number for number in range(30)}
        assert len({message_id for message_id, _ in done.values()}) == 30
        await in_thread(client.close)
    async with broker.subscribe("jobs") as jobs:
        assert sorted(await payloads(jobs, 30)) == list(range(30))
    assert runtimes() == 0
    with pytest.raises(ConnectionClosed, match="this client was closed: make another one"):
        await in_thread(client.publish, "jobs", 1)


async def test_errors_are_those_of_the_client(realm: Realm) -> None:
    """By the same classes, in the thread that called."""

    async def answer(message: object) -> object:
        raise LookupError("no")

    def use() -> None:
        with open_sync_client(address(realm)) as client:
            with pytest.raises(PublishReturned):
                client.publish("nowhere", 1)
            with pytest.raises(RemoteError, match="LookupError: no"):
                client.request("double", 1, timeout=PATIENCE)
            with pytest.raises(DeadlineExceeded):
                client.request("double", 1, timeout=0)

    async with serving(realm, answer):
        await in_thread(use)


async def test_it_empties_a_queue_and_shows_its_connection(realm: Realm, broker: Broker) -> None:
    """As the client for trio does: what waits is counted, or thrown away."""
    await broker.declare(QueueSpec(name="jobs"))

    def use() -> None:
        with open_sync_client(address(realm)) as client:
            for number in range(3):
                client.publish("jobs", number)
            assert client.purge("jobs", dry_run=True) == 3
            assert client.purge("jobs") == 3
            assert client.purge("jobs") == 0
            with pytest.raises(NotFound):
                client.purge("nowhere", timeout=PATIENCE)
            assert client.late_replies == 0
            assert client.snapshot().state is ChildState.READY

    await in_thread(use)


async def test_it_goes_on_over_a_lost_session(realm: Realm, broker: Broker) -> None:
    """As the connection below it does."""
    await broker.declare(QueueSpec(name="jobs"))
    with await in_thread(open_sync_client(address(realm)).__enter__) as client:
        await in_thread(client.publish, "jobs", 1)
        await lose_session(realm, broker, "cut_connections")
        await in_thread(client.publish, "jobs", 2)
    async with broker.subscribe("jobs") as jobs:
        assert await payloads(jobs, 2) == [1, 2]


def test_a_client_whose_broker_is_away_says_so_and_connects_later(realm: Realm) -> None:
    """Each call tries anew; a runtime is left by none."""
    client = open_sync_client(Address(realm.dead, "shop", {"transport_options": realm.options}))
    for _ in range(2):
        with pytest.raises(BrokerUnreachable):
            client.publish("jobs", 1)
    assert runtimes() == 0


@pytest.mark.parametrize("realm", ["memory"], indirect=True)
def test_a_client_that_nobody_refers_to_is_closed(realm: Realm) -> None:
    """By the collector, with its connection and the runtime's thread."""
    with realm.connect() as connection:
        connection.SimpleQueue("jobs").put(0)
    open_sync_client(address(realm)).publish("jobs", 1)
    gc.collect()
    deadline = threading.Event()
    for _ in range(100):
        if not runtimes():
            break
        deadline.wait(0.05)  # the runtime's thread ends by itself: no event tells us
    assert runtimes() == 0
    assert realm.connections() == 0


@pytest.mark.parametrize("realm", ["memory"], indirect=True)
def test_threads_that_come_first_at_once_make_one_connection(realm: Realm) -> None:
    """The others wait for it."""
    with realm.connect() as connection:
        connection.SimpleQueue("jobs").put(0)
    client = open_sync_client(address(realm))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(partial(client.publish, "jobs"), range(8)))
    assert realm.connections() == 1
    client.close()


PROGRAM = """
import json, os, sys
{patch}
from kombu_actors.fleet._address import Address
from kombu_actors.fleet._blocking import open_sync_client
client = open_sync_client(Address(sys.argv[1], "shop"))
{work}
"""

FORKING = """
client.publish("jobs", "parent")
children = []
for number in range(3):
    pid = os.fork()
    if not pid:
        try:
            client.publish("jobs", f"child {number}")
            client.close()
        finally:
            os._exit(0)
    children.append(pid)
for pid in children:
    os.waitpid(pid, 0)
client.publish("jobs", "parent again")
"""

GREEN = """
import gevent
ticks = 0
def tick():
    global ticks
    while True:
        ticks += 1
        gevent.sleep(0.01)
ticker = gevent.spawn(tick)
jobs = [gevent.spawn(client.publish, "jobs", f"green {n}") for n in range(10)]
gevent.joinall(jobs, raise_error=True)
try:
    client.request("jobs", "nobody answers", timeout=0.5)
except TimeoutError:
    print(json.dumps(ticks))
client.close()
"""


def run(url: str, patch: str, work: str) -> str:
    """Run a program in a process of its own; what it printed."""
    program = PROGRAM.format(patch=patch, work=work)
    command = [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", program, url]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("realm", ["amqp", "redis"], indirect=True)
async def test_a_forked_child_goes_on_over_a_connection_of_its_own(realm: Realm, broker: Broker) -> None:
    """As under gunicorn with preload; the parent notices nothing, and the end of the process closes what is open."""
    await broker.declare(QueueSpec(name="jobs"))
    await in_thread(run, realm.url, "", FORKING)
    async with broker.subscribe("jobs") as jobs:
        came = await payloads(jobs, 5)
    assert sorted(came) == ["child 0", "child 1", "child 2", "parent", "parent again"]


@pytest.mark.parametrize("realm", ["amqp"], indirect=True)
async def test_greenlets_wait_without_stopping_others(realm: Realm, broker: Broker) -> None:
    """Under gevent, patched before our import, a greenlet that waits for a reply lets the others run."""
    await broker.declare(QueueSpec(name="jobs"))
    ticks = json.loads(await in_thread(run, realm.url, "import gevent.monkey; gevent.monkey.patch_all()", GREEN))
    assert ticks > 15
    async with broker.subscribe("jobs") as jobs:
        assert sorted(await payloads(jobs, 10)) == [f"green {number}" for number in range(10)]
