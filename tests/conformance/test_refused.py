"""A publish that the broker answers by ending the channel: it alone is refused, and told to somebody."""

from __future__ import annotations

import logging
import random
import threading
from functools import partial
from typing import Any

import pytest
import trio
from amqp.exceptions import ChannelError

from kombu_actors import Connection, Consumer, Producer, Queue
from kombu_actors._values.model import RefusedPublish
from kombu_actors.actors.connection import ConnectionActor
from kombu_actors.broker import Broker
from kombu_actors.message import Message

from .native import PATIENCE, drained, queue, restarted
from .realms import ABLE, Realm
from .test_publishing import outcomes

GOOD = 50


def poison(realm: Realm) -> dict[str, Any]:
    """What makes this broker end the channel of a publish."""
    return {"exchange": "missing"} if on_redis(realm) else {"user_id": "somebody-else"}


def refusal(realm: Realm) -> str:
    """The class of what it says then."""
    return "NotFound" if on_redis(realm) else "PreconditionFailed"


def on_redis(realm: Realm) -> bool:
    """Where users are not known, but exchanges are."""
    return realm.able == ABLE["redis"]


async def deaths(actor: ConnectionActor, channel: int) -> int:
    """How often a channel has died."""
    view = actor.supervisor.snapshot().find(f"channels/{channel}/channel")
    assert view is not None
    return view.restarts


async def test_a_refused_publish_is_raised_by_itself_and_its_neighbours_are_confirmed(
    realm: Realm, broker: Broker
) -> None:
    """Native: first, last or amid others, under way together."""
    await queue(broker, "q")
    bad = poison(realm)
    publishes = [
        broker.publish(number, routing_key="q", **(bad if number in (0, 5, 9) else {})) for number in range(10)
    ]
    expected = [refusal(realm) if number in (0, 5, 9) else "confirmed" for number in range(10)]
    assert await outcomes(*publishes) == expected
    assert set(await drained(broker, "q")) == set(range(10)) - {0, 5, 9}
    assert set(restarted(broker)) <= {"channel", "consumers"}


async def test_a_refused_publish_whose_deadline_passed_takes_nobody_with_it(realm: Realm, broker: Broker) -> None:
    """Nobody waits for it any more, and it is not sent again; what came with it is confirmed."""
    await queue(broker, "q")
    await broker.publish("first", routing_key="q")
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(0) as gone:
                async with trio.open_nursery() as poisoned:
                    poisoned.start_soon(partial(broker.publish, "bad", routing_key="q", **poison(realm)))
                    await trio.lowlevel.checkpoint()
                    gone.cancel()
            for number in range(10):
                nursery.start_soon(partial(broker.publish, number, routing_key="q"))
    assert set(await drained(broker, "q")) == {"first", *range(10)}


def test_with_confirm_publish_a_refused_publish_raises_and_the_next_is_confirmed(
    realm: Realm, connection: Connection
) -> None:
    """Blocking: the channel goes on."""
    producer = Producer(connection)
    kept = Queue("q")(connection)
    kept.declare()
    for number in range(3):
        with pytest.raises(ChannelError) as told:
            producer.publish("bad", routing_key="q", **poison(realm))
        assert type(told.value).__name__ == refusal(realm)
        producer.publish(number, routing_key="q")
    messages = [kept.get(no_ack=True) for _ in range(3)]
    assert [message and message.payload for message in messages] == [0, 1, 2]


def test_what_is_published_behind_a_refused_publish_arrives_in_order_and_the_consumer_hears_it(realm: Realm) -> None:
    """Nobody waits: the channel dies twice at most, the good ones come, the next call says what was refused."""
    received: list[Any] = []
    with realm.connect() as connection:
        channel = connection.channel()
        producer, raised = Producer(channel), []

        def publish(body: Any, **properties: Any) -> None:
            try:
                producer.publish(body, routing_key="q", **properties)
            except ChannelError as error:
                raised.append(error)
                producer.publish(body, routing_key="q", **properties)

        def collect(body: Any, message: Message) -> None:
            received.append(body)
            message.ack()

        with Consumer(channel, [Queue("q")], callbacks=[collect]):
            publish("first")
            publish("bad", **poison(realm))
            for number in range(GOOD):
                publish(number)
            while len(set(received)) < GOOD + 1:
                connection.drain_events(timeout=PATIENCE)
            publish("last")
            while received[-1] != "last":
                connection.drain_events(timeout=PATIENCE)
        first_time = list(dict.fromkeys(received))
        assert first_time == ["first", *range(GOOD), "last"]
        assert [type(error).__name__ for error in raised] == [refusal(realm)]
        assert connection.call(deaths, connection.connect().actor, channel.channel_id) <= 2


def test_who_does_not_wait_is_told_by_the_log_by_a_hook_and_by_the_channels_next_call(
    realm: Realm, caplog: pytest.LogCaptureFixture
) -> None:
    """An ERROR with cause and destination; all of it for the hook; kombu's exception, once, from the channel."""
    told: list[RefusedPublish] = []
    threads: list[threading.Thread] = []
    heard = threading.Event()

    def hook(refused: RefusedPublish) -> None:
        told.append(refused)
        threads.append(threading.current_thread())
        heard.set()
        raise RuntimeError("a hook's own mistakes are logged")

    with realm.connect(transport_options={"on_refused": hook}) as connection:
        channel = connection.channel()
        Queue("q")(channel).declare()
        with caplog.at_level(logging.ERROR, logger="kombu_actors"):
            Producer(channel).publish({"n": 1}, routing_key="q", headers={"h": 1}, message_id="m", **poison(realm))
            assert heard.wait(PATIENCE)
        with pytest.raises(ChannelError, match=r"told late.*routing key 'q'") as raised:
            channel.basic_get("q")
        assert type(raised.value).__name__ == refusal(realm)
        assert raised.value.reply_code in (404, 406)
        Producer(channel).publish(2, routing_key="q")
        message = channel.basic_get("q", no_ack=True)
        assert message is not None
        assert message.payload == 2
    (refused,) = told
    assert threads[0] not in (threading.current_thread(), threading.main_thread())
    assert (refused.exchange, refused.routing_key) == (poison(realm).get("exchange", ""), "q")
    assert (refused.body, refused.properties["message_id"], refused.properties["headers"]) == (
        b'{"n": 1}',
        "m",
        {"h": 1},
    )
    assert type(refused.error).__name__ == refusal(realm)
    errors = [record.getMessage() for record in caplog.records if record.name == "kombu_actors.publisher"]
    assert len(errors) == 1
    assert "routing key 'q' is refused" in errors[0]
    assert str(refused.error) in errors[0]


def test_a_nacked_publish_that_nobody_waits_for_is_logged_and_told_to_the_hook(
    realm: Realm, caplog: pytest.LogCaptureFixture
) -> None:
    """A full queue with reject-publish: the channel lives, so its next call does not raise."""
    told: list[RefusedPublish] = []
    heard = threading.Event()

    def hook(refused: RefusedPublish) -> None:
        told.append(refused)
        heard.set()

    with realm.connect(transport_options={"on_refused": hook}) as connection:
        channel = connection.channel()
        arguments = {"x-max-length": 0, "x-overflow": "reject-publish"}
        Queue("full", queue_arguments=arguments)(channel).declare()
        Producer(channel).publish("no", routing_key="full")
        assert heard.wait(PATIENCE)
        assert channel.basic_get("full") is None
    assert [(refused.routing_key, type(refused.error).__name__) for refused in told] == [("full", "PublishRefused")]
    assert "routing key 'full'" in caplog.text


def test_closing_and_cancelling_work_whatever_was_refused(realm: Realm) -> None:
    """They never raise about an earlier publish."""
    heard = threading.Event()
    with realm.connect(transport_options={"on_refused": lambda refused: heard.set()}) as connection:
        channel = connection.channel()
        kept = Queue("q")(channel)
        kept.declare()
        consumer = Consumer(channel, [kept])
        consumer.consume()
        Producer(channel).publish("bad", routing_key="q", **poison(realm))
        assert heard.wait(PATIENCE)
        consumer.cancel()
        channel.close()


def test_a_slow_hook_is_told_of_each_refusal_in_order_and_holds_nobody_up(realm: Realm) -> None:
    """One at a time; meanwhile the channel publishes on."""
    told: list[str] = []
    go_on, all_told = threading.Event(), threading.Event()

    def hook(refused: RefusedPublish) -> None:
        assert go_on.wait(PATIENCE)
        told.append(refused.routing_key)
        if len(told) == 5:
            all_told.set()

    with realm.connect(transport_options={"on_refused": hook}) as connection:
        channel = connection.channel()
        arguments = {"x-max-length": 0, "x-overflow": "reject-publish"}
        for name in (*"abcde", "q"):
            Queue(name, queue_arguments=arguments if name != "q" else None)(channel).declare()
        for name in (*"abcde", "q"):
            Producer(channel).publish(name, routing_key=name)
        assert channel.basic_get("q") is not None
        assert told == []
        go_on.set()
        assert all_told.wait(PATIENCE)
    assert told == list("abcde")


@pytest.mark.parametrize("seed", [1])
async def test_amid_lost_sessions_the_refused_are_refused_and_all_others_arrive(
    realm: Realm, broker: Broker, seed: int
) -> None:
    """300 publishes, some of them bad, while connections are cut: a good one is never taken for a bad one."""
    chance = random.Random(seed)
    await queue(broker, "q")
    refused: set[int] = set()
    bad = {number for number in range(300) if chance.random() < 0.04}

    async def publish(number: int) -> None:
        try:
            await broker.publish(number, routing_key="q", **(poison(realm) if number in bad else {}))
        except ChannelError:
            refused.add(number)

    with trio.fail_after(3 * PATIENCE):
        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(publish, number)
                if chance.random() < 0.05:
                    await trio.sleep(chance.random() * 0.02)
                if number in (100, 200):
                    await trio.to_thread.run_sync(realm.cut_connections)
    assert refused == bad
    assert set(await drained(broker, "q")) == set(range(300)) - bad
