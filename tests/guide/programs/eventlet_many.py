"""Ten green threads share a simple queue for sending; one receives all that came.

Alone: eventlet patches the standard library.
Kombu hangs: on amqp, where green threads that share a channel of py-amqp wait for each other.
Prints:
    10 sent
    10 received, all different: True
"""

import sys

import eventlet

eventlet.monkey_patch()

from kombu import Connection  # noqa: E402


def send_many(n):
    with Connection(sys.argv[1]) as connection, connection.SimpleQueue("guide-green") as queue:
        pool = eventlet.GreenPool(10)
        for i in range(n):
            pool.spawn(queue.put, {"hello": f"world{i}"})
        pool.waitall()
    print(n, "sent")


def wait_many(timeout=1):
    received = []
    with Connection(sys.argv[1]) as connection, connection.SimpleQueue("guide-green") as queue:
        while True:
            try:
                message = queue.get(timeout=timeout)
            except queue.Empty:
                break
            message.ack()
            received.append(message.payload["hello"])
    print(len(received), "received, all different:", len(set(received)) == len(received))


send_many(10)
eventlet.spawn(wait_many).wait()
