"""Producers: made of a connection or a channel, with an exchange that is declared on the way, retried by a policy.

Prints:
    {'hello': 'world', 'n': 1}
    {'hello': 'world', 'n': 2}
    {'hello': 'world', 'n': 3}
    {'hello': 'world', 'n': 4}
    nothing more
"""

import sys

from kombu import Connection, Exchange, Producer, Queue

exchange = Exchange("guide-names", type="direct")
queue = Queue("guide-names", exchange, routing_key="rk")
task_queue = Queue("guide-tasks", Exchange("guide-tasks"), routing_key="tasks")

with Connection(sys.argv[1]) as connection:
    # By the connection, by a channel.
    with connection.channel() as channel:
        queue(channel).declare()
        Producer(channel).publish({"hello": "world", "n": 1}, exchange=exchange, routing_key="rk", declare=[exchange])
    producer = connection.Producer()

    # Tried again when the connection is lost: at once, then 2 s later, and so on.
    policy = {"interval_start": 0, "interval_step": 2, "interval_max": 30, "max_retries": 30}
    producer.publish({"hello": "world", "n": 2}, exchange=exchange, routing_key="rk", retry=True, retry_policy=policy)

    # The queue is declared with its exchange and bound before its first consumer has ever run.
    producer.publish(
        {"hello": "world", "n": 3},
        retry=True,
        exchange=task_queue.exchange,
        routing_key=task_queue.routing_key,
        declare=[task_queue],
    )
    # Past all exchanges, to a queue by its name.
    producer.publish({"hello": "world", "n": 4}, exchange="", routing_key=task_queue.name)

    for each in (queue, queue, task_queue, task_queue):
        message = each(connection).get()
        print(message.payload)
        message.ack()
    print(queue(connection).get() or "nothing more")
