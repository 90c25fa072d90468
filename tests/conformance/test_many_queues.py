"""Many queues of one consumer are declared and consumed from together, and each is still itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from amqp.exceptions import NotFound, PreconditionFailed

from kombu_actors import Connection, Exchange, Queue, binding
from kombu_actors._bridge.portal import Portal
from kombu_actors.broker import BindingSpec, Broker, ExchangeSpec, QueueSpec
from kombu_actors.message import Message
from tests.support.processes import wait_until

from .native import PATIENCE, drained, to_queue
from .realms import Realm
from .test_facade import HARM, drain, later_session

MANY = 150
"""More than are asked for in one call."""
IN_THE_MIDDLE = 120


@HARM
def test_many_queues_are_there_and_heard_again_after_a_loss(realm: Realm, connection: Connection, harm: str) -> None:
    """With their exchanges and bindings, those of several exchanges among them."""
    got: set[str] = set()

    def note(body: Any, message: Message) -> None:
        got.add(body)
        message.ack()

    news, fans = Exchange("news", "topic"), Exchange("fans", "fanout", durable=False)
    queues = [Queue(f"q{number}", news, f"key.{number}") for number in range(MANY)]
    queues[7] = Queue("q7", bindings=[binding(news, "key.7"), binding(fans, "")])
    producer = connection.Producer()
    with connection.Consumer(queues, callbacks=[note]):
        for _ in range(2):
            got.clear()
            for number in range(MANY):
                producer.publish(f"{number}", f"key.{number}", exchange="news", mandatory=True, retry=True)
            producer.publish("to fans", exchange="fans", mandatory=True, retry=True)
            drain(connection, lambda: len(got) == MANY + 1)
            sessions = connection.connect().sessions
            getattr(realm, harm)()
            wait_until(later_session(connection, sessions), timeout=PATIENCE, waiting_for="the next session")


def test_many_queues_take_few_calls(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand would be two thousand ways into the runtime and back."""
    channel = connection.channel()
    calls: list[object] = []
    call = Portal.call

    def count(portal: Portal, fn: Callable[..., Any], *args: object, **options: Any) -> Any:
        calls.append(fn)
        return call(portal, fn, *args, **options)

    monkeypatch.setattr(Portal, "call", count)
    consumer = connection.Consumer([Queue(f"q{number}", durable=False) for number in range(MANY)], channel=channel)
    consumer.consume()
    assert len(calls) == 4
    monkeypatch.undo()
    consumer.cancel()


def test_the_refused_one_of_many_is_told_and_hinders_none_of_the_others(connection: Connection) -> None:
    """One is there with other settings: that is raised, and those before it are there; without it all are."""
    Queue("q120", durable=False)(connection).declare()
    queues = [Queue(f"q{number}") for number in range(MANY)]
    with pytest.raises(PreconditionFailed, match="q120"):
        connection.Consumer(queues)
    for queue in queues[:IN_THE_MIDDLE]:
        queue(connection).queue_declare(passive=True)
    del queues[IN_THE_MIDDLE]
    got: list[str] = []
    with connection.Consumer(queues, on_message=lambda message: got.append(message.delivery_info["routing_key"])):
        connection.Producer().publish("m", f"q{MANY - 1}")
        drain(connection, lambda: got == [f"q{MANY - 1}"])


def test_those_before_a_refused_one_are_consumed_from(connection: Connection) -> None:
    """As when each is asked for by itself: those behind it are not; once it is there, all are."""
    queues = [Queue(f"q{number}") for number in range(MANY)]
    for queue in (*queues[:IN_THE_MIDDLE], *queues[IN_THE_MIDDLE + 1 :]):
        queue(connection).declare()
    got: list[str] = []
    consumer = connection.Consumer(
        queues, auto_declare=False, on_message=lambda message: got.append(message.delivery_info["routing_key"])
    )
    with pytest.raises(NotFound, match="q120"):
        consumer.consume()
    assert [consumer.consuming_from(queue) for queue in queues] == [number < IN_THE_MIDDLE for number in range(MANY)]
    producer = connection.Producer()
    producer.publish("m", "q149")
    producer.publish("m", "q119")
    drain(connection, lambda: got)
    assert got == ["q119"]
    queues[IN_THE_MIDDLE](connection).declare()
    consumer.consume()
    drain(connection, lambda: len(got) == 2)
    assert got == ["q119", "q149"]
    consumer.cancel()


def test_those_that_ask_for_an_answer_get_it_among_many(connection: Connection) -> None:
    """A name from the broker, ``on_declared``, an exclusive one; the second of a name takes the first one's place."""
    declared: list[str] = []
    queues = [Queue(f"q{number}") for number in range(MANY)]
    queues[3] = Queue("", exclusive=True, durable=False)
    queues[5] = Queue("told", on_declared=lambda name, messages, consumers: declared.append(name))
    queues[8] = Queue("mine", exclusive=True)
    queues.append(Queue("q9", no_ack=True))
    got: set[str] = set()
    with connection.Consumer(queues, on_message=lambda message: got.add(message.delivery_info["routing_key"])) as each:
        names = [queue.name for queue in each.queues]
        assert len(names) == MANY
        assert all(names)
        assert declared == ["told"]
        assert each.queues[9].no_ack
        for name in names:
            connection.Producer().publish("m", name)
        drain(connection, lambda: got == set(names))


async def test_many_entities_are_declared_together_and_restored(realm: Realm, broker: Broker) -> None:
    """Natively: the first refusal is raised and the others are held to be true; the answer is the last queue's."""
    await broker.declare(QueueSpec(name="q20", durable=False))
    entities: list[ExchangeSpec | QueueSpec | BindingSpec] = [ExchangeSpec(name="news", type="direct")]
    for number in range(40):
        entities += [QueueSpec(name=f"q{number}"), to_queue(f"q{number}", "news", f"{number}")]
    with pytest.raises(PreconditionFailed, match="q20"):
        await broker.declare(*entities)
    await broker.delete_queue("q20")
    await broker.declare(*entities)
    await broker.publish("m", routing_key="q39")
    info = await broker.declare(*entities)
    assert info is not None
    assert (info.name, info.messages) == ("q39", 1)
    for number in range(40):
        await broker.delete_queue(f"q{number}")
    await broker.declare(*entities)
    realm.cut_connections()
    for number in range(40):
        await broker.publish(number, exchange="news", routing_key=f"{number}", mandatory=True)
        assert await drained(broker, f"q{number}") == [number]
