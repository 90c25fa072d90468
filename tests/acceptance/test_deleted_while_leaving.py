"""A queue that somebody deletes comes back, also when the consumer that is told of it is leaving just then."""

from __future__ import annotations

from typing import Any

import amqp

from kombu_actors import Connection, Consumer, Exchange, Producer, Queue

from ..support.rabbitmq import RabbitMQNode

PATIENCE = 10.0
ROUNDS = 20


def test_a_queue_deleted_by_a_peer_is_there_again_when_its_consumer_leaves(
    rabbitmq: RabbitMQNode, vhost: str, amqp_url: str
) -> None:
    """The consumer has heard basic.cancel, and restores the queue; the program cancels it in the middle of that."""
    fanout = Exchange("x", type="fanout")
    queues = [Queue("first"), Queue("second"), Queue("deleted", fanout)]
    received: list[Any] = []
    with (
        Connection(amqp_url) as connection,
        amqp.Connection(host=f"127.0.0.1:{rabbitmq.port}", virtual_host=vhost) as peer,
    ):
        deleting = peer.channel()
        for number in range(ROUNDS):
            consumer = Consumer(connection, queues, on_message=received.append, no_ack=True)
            consumer.consume()
            deleting.queue_delete("deleted")
            consumer.cancel()
            assert "deleted" in rabbitmq.list_queues(vhost)
            Producer(connection).publish(number, exchange=fanout)
            with Consumer(connection, queues, on_message=received.append, no_ack=True):
                while not received:
                    connection.drain_events(timeout=PATIENCE)
            assert [message.payload for message in received] == [number]
            received.clear()
