"""Worker classes: documented hooks with kombu as the witness; recovery is supervision's, and stopping is at once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from queue import SimpleQueue
from typing import Any

import pytest

from kombu_actors import Connection, Consumer, Message, Queue
from kombu_actors.errors import OperationalError
from kombu_actors.mixins import ConsumerMixin, ConsumerProducerMixin
from kombu_actors.utils.uuid import uuid

from .outages import OUTPOSTS, Outpost

PATIENCE = 10.0
logger = logging.getLogger(__name__)


@pytest.fixture(params=sorted(OUTPOSTS))
def outpost(request: pytest.FixtureRequest) -> Iterator[Outpost]:
    """A broker of each kind."""
    yield from OUTPOSTS[request.param](request)


class Worker(ConsumerMixin):
    """Notes what happens, in order; ``heard.get(timeout=...)`` waits for the next note."""

    def __init__(self, connection: Connection, *queues: str) -> None:
        self.connection = connection
        self.queues = queues or ("work",)
        self.heard: SimpleQueue[tuple[Any, ...]] = SimpleQueue()
        self.failures: list[BaseException] = []

    def get_consumers(self, Consumer: Callable[..., Consumer], channel: Any) -> list[Consumer]:
        queues = [Queue(name) for name in self.queues]
        return [Consumer([queue], callbacks=[self.work], prefetch_count=10) for queue in queues]

    def work(self, body: Any, message: Message) -> None:
        message.ack_log_error(logger, self.connection.connection_errors)  # its session may just have been cut
        self.heard.put(("message", tuple(body) if isinstance(body, list) else body))

    def on_connection_error(self, exc: BaseException, interval: float) -> None:
        self.heard.put(("error", type(exc).__name__, interval))

    def on_connection_revived(self) -> None:
        self.heard.put(("revived",))

    def on_consume_ready(self, connection: Any, channel: Any, consumers: Any, **kwargs: Any) -> None:
        self.heard.put(("ready", len(consumers), kwargs))

    def on_consume_end(self, connection: Any, channel: Any) -> None:
        super().on_consume_end(connection, channel)
        self.heard.put(("end",))

    def next(self) -> tuple[Any, ...]:
        return self.heard.get(timeout=PATIENCE)

    def until(self, what: str) -> list[tuple[Any, ...]]:
        """All notes up to and including the next of a kind."""
        notes = [self.next()]
        while notes[-1][0] != what:
            notes.append(self.next())
        return notes

    def noting_run(self) -> None:
        try:
            self.run()
        except Exception as error:
            self.failures.append(error)


@contextmanager
def running(worker: Worker) -> Iterator[threading.Thread]:
    """A thread that runs the worker; it is told to stop at the end of the block."""
    thread = threading.Thread(target=worker.noting_run)
    thread.start()
    try:
        yield thread
    finally:
        worker.should_stop = True
        thread.join(PATIENCE)
        assert not thread.is_alive()


@pytest.fixture
def connection(outpost: Outpost) -> Iterator[Connection]:
    """The connection a worker is given, used to publish here."""
    with Connection(outpost.url) as made:
        yield made


def publish(connection: Connection, *bodies: Any, to: str = "work") -> None:
    producer = connection.Producer(routing_key=to)
    for body in bodies:
        producer.publish(body, declare=[Queue(to)], retry=True)


@pytest.mark.parametrize("package", ["kombu_actors", "kombu"])
def test_hooks_are_called_in_the_documented_order(package: str) -> None:
    """Revived, ready (with run's keywords), extra context, iterations and messages, end."""
    library, mixins = import_module(package), import_module(f"{package}.mixins")
    queue = library.Queue(f"mixin-{uuid()}")
    events: list[Any] = []

    class Documented(mixins.ConsumerMixin):  # type: ignore[misc,name-defined]
        def __init__(self, connection: Any) -> None:
            self.connection = connection

        def get_consumers(self, Consumer: Any, channel: Any) -> Any:
            events.append("get_consumers")
            return [Consumer(queues=[queue], callbacks=[self.on_task], accept=["json"])]

        def on_task(self, body: Any, message: Any) -> None:
            events.append(body)
            message.ack()
            self.should_stop = body == 2

        @contextmanager
        def extra_context(self, connection: Any, channel: Any) -> Iterator[None]:
            events.append("enter")
            yield
            events.append("leave")

        def on_connection_revived(self) -> None:
            events.append("revived")

        def on_consume_ready(self, connection: Any, channel: Any, consumers: Any, **kwargs: Any) -> None:
            assert connection.default_channel is channel
            events.append(("ready", len(consumers), kwargs))

        def on_consume_end(self, connection: Any, channel: Any) -> None:
            events.append("end")

        def on_decode_error(self, message: Any, exc: Exception) -> None:
            events.append(type(exc).__name__)
            super().on_decode_error(message, exc)

        def on_iteration(self) -> None:
            events.append("iteration")

    with library.Connection(f"memory://{uuid()}") as connection:
        producer = connection.Producer(routing_key=queue.name)
        producer.publish([1], declare=[queue])
        producer.publish({1}, serializer="pickle")
        producer.publish("2", content_type="application/json", content_encoding="utf-8")
        Documented(connection).run(keyword=1)
    assert [event for event in events if event != "iteration"] == [
        "revived", "get_consumers", "enter", ("ready", 1, {"keyword": 1}),
        [1], "ContentDisallowed", 2, "leave", "end",
    ]  # fmt: skip
    assert events.count("iteration") >= 3
    assert events.index("iteration") == events.index([1]) - 1


@pytest.mark.parametrize("package", ["kombu_actors", "kombu"])
def test_consume_is_a_generator_with_limits(package: str) -> None:
    """So many iterations, or until nothing came for so long."""
    library, mixins = import_module(package), import_module(f"{package}.mixins")
    queue = library.Queue(f"mixin-{uuid()}")
    got: list[Any] = []

    class Plain(mixins.ConsumerMixin):  # type: ignore[misc,name-defined]
        def __init__(self, connection: Any) -> None:
            self.connection = connection

        def get_consumers(self, Consumer: Any, channel: Any) -> Any:
            return [Consumer(queues=[queue], no_ack=True, callbacks=[lambda body, message: got.append(body)])]

    with library.Connection(f"memory://{uuid()}") as connection:
        for number in range(3):
            connection.Producer(routing_key=queue.name).publish([number], declare=[queue])
        worker = Plain(connection)
        assert len(list(worker.consume(limit=2))) == 2
        assert got == [[0], [1]]
        connection.Producer(routing_key=queue.name).publish([9])
        with pytest.raises(TimeoutError):
            list(worker.consume(timeout=0.2, safety_interval=0.1))
    assert got[-1] == [9]


def test_a_worker_must_say_what_it_consumes() -> None:
    """Else it is told so."""
    worker = ConsumerMixin()
    worker.connection = Connection(f"memory://{uuid()}")
    with pytest.raises(NotImplementedError, match="get_consumers"):
        worker.run()


def test_lost_sessions_are_heard_of_and_need_no_work(outpost: Outpost, connection: Connection) -> None:
    """Error, revived, ready again, and on it goes, with the same consumers: kombu would have begun afresh."""
    worker = Worker(connection, "work", "more")
    with running(worker):
        assert [worker.next(), worker.next()] == [("revived",), ("ready", 2, {})]
        for number in range(5):
            for queue in worker.queues:
                publish(connection, (number, queue), to=queue)
            expected = {("message", (number, queue)) for queue in worker.queues}
            while expected:  # what was not yet acknowledged at the last cut comes again
                expected.discard(worker.next())
            outpost.cut()
            notes = [note for note in worker.until("ready") if note[0] != "message"]
            assert notes[0][:2] == ("error", "ConnectionLost")
            assert 0 <= notes[0][2] < 3
            assert notes[1:] == [("revived",), ("ready", 2, {})]
    assert worker.until("end")[-1] == ("end",)
    assert worker.failures == []


def test_during_an_outage_each_failed_dial_is_heard_of(outpost: Outpost, connection: Connection) -> None:
    """With the seconds until the next one; once the broker is back, so are the messages."""
    worker = Worker(connection)
    with running(worker):
        worker.until("ready")
        outpost.refuse()
        outpost.cut()
        notes = [worker.next() for _ in range(3)]
        assert [note[0] for note in notes] == ["error"] * 3
        assert [note[1] for note in notes[1:]] == ["BrokerUnreachable"] * 2
        assert all(0 <= interval < 4 for _, _, interval in notes)
        outpost.heal()
        publish(connection, "m")
        assert ("message", "m") in worker.until("message")


def test_connect_max_retries_bounds_the_dials_in_a_row(outpost: Outpost, connection: Connection) -> None:
    """Two may fail and a third is tried; then ``run`` raises; an outage before starts no new count."""
    worker = Worker(connection)
    worker.connect_max_retries = 2
    with running(worker) as thread:
        worker.until("ready")
        for _ in range(3):
            outpost.cut()
            worker.until("revived")
            worker.until("ready")
        outpost.refuse()
        outpost.cut()
        notes = worker.until("end")
        thread.join(PATIENCE)
    assert [note[0] for note in notes] == ["error", "error", "error", "end"]
    assert type(worker.failures[0]) is OperationalError
    assert "gave up after 3 dials" in str(worker.failures[0])
    outpost.heal()


def test_connect_max_retries_bounds_the_first_connect_as_in_kombu(outpost: Outpost, connection: Connection) -> None:
    """Errors go to the hook, the last is raised."""
    outpost.refuse()
    worker = Worker(connection)
    worker.connect_max_retries = 1
    with pytest.raises(OperationalError):
        worker.run()
    assert [worker.next()[0] for _ in range(worker.heard.qsize())] == ["error"]
    outpost.heal()


def test_stopping_is_at_once_and_gives_messages_back(outpost: Outpost, connection: Connection) -> None:
    """From another thread, while waiting for messages; kombu looks once a second.  The connection is gone then."""
    publish(connection, 0)
    before = outpost.connections()
    worker = Worker(connection)
    with running(worker) as thread:
        worker.until("message")
        begin = time.monotonic()
        worker.should_stop = True
        thread.join(PATIENCE)
        assert time.monotonic() - begin < 0.5
    assert worker.next() == ("end",)
    outpost.wait_connections(before)


def test_stopping_ends_the_wait_for_a_first_connection(outpost: Outpost, connection: Connection) -> None:
    """A worker that never found its broker can be stopped, too."""
    outpost.refuse()
    worker = Worker(connection)
    with running(worker):
        assert worker.next()[:2] == ("error", "BrokerUnreachable")
    assert worker.failures == []
    outpost.heal()


def test_what_supervision_cannot_mend_begins_afresh() -> None:
    """The error that it gave up with is logged, and ``run`` makes a new connection."""
    connection = Connection(f"memory://{uuid()}")
    worker = Worker(connection)
    worker.restart_limit.fill_rate = 100
    made: list[Connection] = []

    def create() -> Connection:
        made.append(connection.clone())
        return made[-1]

    worker.create_connection = create  # type: ignore[method-assign]
    with running(worker):
        worker.until("ready")
        tree = made[0]._runs.running()
        tree.inbox.fail(connection.channel_errors[0]("the broker closes it again and again"))
        assert [note[0] for note in worker.until("ready")] == ["end", "revived", "ready"]
        publish(connection, "m")
        assert worker.next() == ("message", "m")
    assert len(made) == 2
    connection.release()


def test_a_failing_callback_ends_the_worker_and_gives_its_message_back(
    outpost: Outpost, connection: Connection
) -> None:
    """Its error comes out of ``run``; the message is another's."""

    class Failing(Worker):
        def work(self, body: Any, message: Message) -> None:
            raise ZeroDivisionError

    publish(connection, "m")
    worker = Failing(connection)
    with pytest.raises(ZeroDivisionError):
        worker.run()
    assert worker.until("end")[-1] == ("end",)
    outpost.wait_ready("work", 1)


def test_a_worker_that_publishes_has_a_connection_for_it(outpost: Outpost, connection: Connection) -> None:
    """A second one, which survives as the first one does, and goes when consuming ends.

    What a cut catches before its ack or confirm is handled or sent again: an answer may come twice.
    """

    class Answering(ConsumerProducerMixin, Worker):
        def work(self, body: Any, message: Message) -> None:
            self.producer.publish(body * 2, routing_key=message.properties["reply_to"], retry=True)
            message.ack()

    worker = Answering(connection)
    with running(worker), connection.SimpleQueue(Queue("answers")) as answers:
        worker.until("ready")
        before = outpost.connections()
        for number in range(3):
            connection.Producer().publish(number, "work", reply_to="answers", retry=True)
            payload = -1
            while payload != number * 2:
                answer = answers.get(timeout=PATIENCE)
                payload = answer.payload
                answer.ack()
            if number == 0:
                assert outpost.connections() == before + 1
            worker.producer_connection.ensure_connection()
            outpost.cut()
            worker.until("revived")
    assert worker._producer_connection is None
    outpost.wait_connections(1)


def test_errors_may_be_let_pass() -> None:
    """The mixin knows its connection's errors."""
    worker = ConsumerMixin()
    worker.connection = Connection(f"memory://{uuid()}")

    def fails() -> None:
        raise worker.connection_errors[0]("lost")

    worker.maybe_conn_error(fails)
    assert worker.channel_errors == worker.connection.channel_errors
