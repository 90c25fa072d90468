"""Failover: several URLs, of which one has to answer; when it goes away, the next one takes over.

    python examples/failover.py [URL;URL...]

By default two brokers in this process, so that the program itself can take the first one away.
"""

from __future__ import annotations

import sys

from kombu_actors import Connection, Producer, Queue
from kombu_actors.transport.memory import memory_broker

greetings = Queue("greetings")


def main(urls: str = "memory://first;memory://second") -> None:
    # ``transport_options={"confirm_publish": True}``: each publish waits for its own confirm.
    with Connection(urls, transport_options={"confirm_publish": True}) as connection:
        with Producer(connection) as producer:
            producer.publish("hello", routing_key="greetings", declare=[greetings])
            print(f"published by way of {connection.as_uri()}")

            if urls.startswith("memory://first;"):
                memory_broker("first").refuse()  # as if its host were switched off ...
                memory_broker("first").cut()  # ... with our connection on it

            # retry=True waits while no broker is there; without it, this would raise at once.
            # The queue is declared on the next broker before anything is published to it.
            producer.publish("hello again", routing_key="greetings", retry=True)
            print(f"published by way of {connection.as_uri()}")

        while message := greetings(connection).get(no_ack=True):
            print(f"received {message.payload!r}")


if __name__ == "__main__":
    main(*sys.argv[1:])
