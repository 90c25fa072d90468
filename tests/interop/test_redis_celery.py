"""A Celery 5.7 worker and Celery's client, as installed, beside kombu_actors on one Redis.

The worker is a process of its own (``redis_celery_app``) on stock kombu.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from kombu_actors import Connection, Consumer, Exchange, Queue
from tests.support.brokers import RedisNode
from tests.support.processes import ServerProcess

from .redis_celery_app import TASK
from .redis_crews import MESSAGES, PATIENCE, Crew, Ground, ground_of

ROOT = Path(__file__).parent.parent.parent
HOST = "tests@celery"


def celery_worker(ground: Ground, directory: Path, *options: str) -> ServerProcess:
    """``celery worker`` on this ground."""
    worker: ServerProcess
    command = [sys.executable, "-m", "celery", "-A", "tests.interop.redis_celery_app", "worker", "-n", HOST]
    worker = ServerProcess(
        [*command, "--loglevel", "INFO", *options],
        directory=directory,
        environment={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "CELERY_BROKER_URL": ground.url},
        is_serving=lambda: f"{HOST} ready" in worker.output,
        start_timeout=30,
    )
    return worker


@pytest.fixture(scope="module")
def ground(redis_server: RedisNode) -> Iterator[Ground]:
    """The database that this module shares with its worker."""
    with ground_of(redis_server) as ground:
        yield ground


@pytest.fixture(scope="module", autouse=True)
def worker(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A worker of two processes that takes tasks from Celery's default queue."""
    worker = celery_worker(ground, tmp_path_factory.mktemp("celery"), "--pool", "prefork", "--concurrency", "2")
    worker.start()
    yield worker
    worker.stop()


@pytest.fixture
def connection(ground: Ground) -> Iterator[Connection]:
    """One of ours."""
    with Connection(ground.url, transport_options={"confirm_publish": True}) as connection:
        yield connection


@pytest.fixture(scope="module")
def client(ground: Ground) -> Iterator[Any]:
    """Celery's client: an application without tasks of its own."""
    app = import_module("celery").Celery("client", broker=ground.url, backend="rpc://")
    yield app
    app.close()
    app.pool.force_close_all()


def send_task(producer: Any, args: list[Any], *, queue: str = "celery", reply_to: str, **properties: Any) -> str:
    """A task in Celery's message protocol, version 2."""
    task = str(uuid4())
    producer.publish(
        [args, {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}],
        routing_key=queue,
        headers={
            "lang": "py", "task": TASK, "id": task, "root_id": task, "parent_id": None, "group": None,
            "argsrepr": repr(args), "kwargsrepr": "{}", "origin": "tests", "eta": None, "expires": None,
            "retries": 0, "timelimit": [None, None],
        },
        correlation_id=task,
        reply_to=reply_to,
        **properties,
    )  # fmt: skip
    return task


def collect(connection: Connection, queue: Queue, count: int) -> list[Any]:
    """Take and acknowledge so many messages."""
    found: list[Any] = []

    def take(message: Any) -> None:
        message.ack()
        found.append(message)

    with Consumer(connection, queue, on_message=take, accept=["json"]):
        while len(found) < count:
            connection.drain_events(timeout=PATIENCE)
    return found


def test_a_celery_worker_runs_what_our_producer_sends(ground: Ground, connection: Connection) -> None:
    """1,000 tasks of several priorities, each run once; the results come back to our consumer."""
    answers = Queue(f"answers-{uuid4()}", durable=False)
    answers(connection.default_channel).declare()
    producer = connection.Producer()
    sent = {
        send_task(producer, [number, 1], reply_to=answers.name, priority=number % 10): number
        for number in range(MESSAGES)
    }
    found = collect(connection, answers, MESSAGES)
    assert sorted(message.payload["task_id"] for message in found) == sorted(sent)
    for message in found:
        assert message.payload["status"] == "SUCCESS", message.payload
        assert message.payload["result"] == sent[message.payload["task_id"]] + 1
        assert message.properties["correlation_id"] == message.payload["task_id"]
    ground.wait_clear()


def test_our_consumer_runs_what_celerys_client_sends(ground: Ground, client: Any) -> None:
    """1,000 calls of ``send_task``; the client gets each result from us."""
    with Connection(ground.url) as answering, Crew(ground) as crew:
        producer = answering.Producer()

        def work(message: Any) -> bool:
            (args, kwargs, _), headers = message.payload, message.headers
            assert (headers["task"], headers["lang"], kwargs) == ("ours.add", "py", {"y": 2})
            result = {"task_id": headers["id"], "status": "SUCCESS", "result": args[0] + kwargs["y"], "traceback": None}
            producer.publish(
                {**result, "children": []},
                routing_key=message.properties["reply_to"],
                correlation_id=message.properties["correlation_id"],
            )
            message.ack()
            return True

        crew.hire("kombu_actors", lambda package: [package.Queue("ours")], decide=work)
        results = [
            client.send_task("ours.add", args=(number,), kwargs={"y": 2}, queue="ours") for number in range(MESSAGES)
        ]
        assert [result.get(timeout=PATIENCE) for result in results] == [number + 2 for number in range(MESSAGES)]
        assert sorted(args[0] for args, _, _ in crew.everything()) == list(range(MESSAGES))
    ground.wait_clear()


def test_a_celery_worker_and_our_consumers_share_a_queue(ground: Ground, connection: Connection, client: Any) -> None:
    """Tasks of Celery's client and of ours: the worker runs some, ours takes the others, each once."""
    answers = Queue(f"answers-{uuid4()}", durable=False)
    answers(connection.default_channel).declare()
    with Crew(ground) as crew:
        ours = crew.hire(
            "kombu_actors", lambda package: [package.Queue("celery", package.Exchange("celery"), "celery")]
        )
        theirs = crew.hire("kombu_actors", lambda package: [package.Queue(answers.name, durable=False)])
        producer = connection.Producer()
        for number in range(MESSAGES):
            if number % 2:
                send_task(producer, [number], reply_to=answers.name)
            else:
                client.send_task(TASK, args=(number,), reply_to=answers.name)
        crew.wait(MESSAGES)
    by_ours = [args[0] for args, _, _ in crew.handled[ours]]
    by_worker = [answer["result"] for answer in crew.handled[theirs]]
    assert sorted(by_worker + by_ours) == list(range(MESSAGES))
    assert by_worker
    assert by_ours
    ground.wait_clear()


def test_celerys_remote_control_works_beside_our_consumers(ground: Ground, client: Any) -> None:
    """``inspect ping`` and ``inspect stats``: a broadcast there, replies back; ours hears the broadcast too."""
    with Crew(ground) as crew:
        crew.hire("kombu_actors", lambda package: [package.Queue("idle")])
        crew.hire(
            "kombu_actors",
            lambda package: [package.Queue("ear", package.Exchange("celery.pidbox", "fanout"))],
            name="ear",
        )
        inspect = client.control.inspect(timeout=PATIENCE, limit=1)
        assert inspect.ping() == {HOST: {"ok": "pong"}}
        assert inspect.stats()[HOST]["broker"]["transport"] == "redis"
        crew.wait(2)
    assert [heard["method"] for heard in crew.handled["ear"]] == ["ping", "stats"]


def test_our_producer_speaks_to_a_celery_workers_mailbox(connection: Connection) -> None:
    """Our broadcast of ``ping``, with nothing declared but the queue for replies, is answered into it."""
    replies = Queue(f"{uuid4()}.reply", Exchange("reply.celery.pidbox", "direct", durable=False), "here", durable=False)
    replies(connection.default_channel).declare()
    ticket = str(uuid4())
    connection.Producer().publish(
        {"method": "ping", "arguments": {}, "destination": None, "pattern": None, "matcher": None, "ticket": ticket,
         "reply_to": {"exchange": "reply.celery.pidbox", "routing_key": "here"}},
        exchange="celery.pidbox",
        headers={"clock": 1, "expires": 0},
    )  # fmt: skip
    (reply,) = collect(connection, replies, 1)
    assert reply.payload == {HOST: {"ok": "pong"}}
    assert reply.headers["ticket"] == ticket


def test_our_subscriber_hears_a_celery_workers_events(ground: Ground, connection: Connection) -> None:
    """Each task is announced as received, started and succeeded, to whoever subscribes to ``celeryev``."""

    def queues(package: Any) -> list[Any]:
        return [package.Queue("events", package.Exchange("celeryev", "fanout"), "task.#")]

    with Crew(ground) as crew:
        crew.hire("kombu_actors", queues)
        sent = [send_task(connection.Producer(), [number], reply_to="") for number in range(10)]
        crew.wait_for(lambda batches: sum(event["type"] == "task-succeeded" for event in chain(*batches)) == len(sent))
    story = [(event["uuid"], event["type"]) for event in chain(*crew.everything())]
    for task in sent:
        assert [kind for uuid, kind in story if uuid == task] == ["task-received", "task-started", "task-succeeded"]
