"""RabbitMQ's own means delay a message: 28 levels of queues, each with its time to live, that lead to the destination.

Brokers: amqp
Prints:
    not yet: None
    received: delayed msg
    after a second: True
"""

import sys
import time

from kombu import Connection, Exchange, Queue
from kombu.transport.native_delayed_delivery import (
    bind_queue_to_native_delayed_delivery_exchange,
    calculate_routing_key,
    declare_native_delayed_delivery_exchanges_and_queues,
    level_name,
)

destination = Exchange("guide-destination", type="topic")
queue = Queue("guide-destination", exchange=destination, routing_key="guide_route")

with Connection(sys.argv[1]) as connection:
    declare_native_delayed_delivery_exchanges_and_queues(connection, "classic", "guide")
    queue(connection).declare()
    bind_queue_to_native_delayed_delivery_exchange(connection, queue, "guide")
    with connection.channel() as channel, connection.Producer(channel=channel) as producer:
        started = time.monotonic()
        producer.publish(
            "delayed msg", routing_key=calculate_routing_key(1, "guide_route"), exchange=level_name(27, "guide")
        )

    def callback(body, message):
        print("received:", body)
        message.ack()

    print("not yet:", queue(connection).get())
    with connection.Consumer(queue, callbacks=[callback]):
        connection.drain_events(timeout=10)
    print("after a second:", time.monotonic() - started > 0.9)
