"""A worker on Redis: ``python examples/redis_worker.py [URL]``.

Queues, priorities and broadcasts are kombu's on Redis, so the jobs may come from stock kombu or Celery programs, and go
to them.  Step 0 of the priorities is served first.  ``visibility_timeout`` need not be longer than the longest job: the
worker's claims are renewed for as long as its process lives, and come back seconds after its death.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from kombu_actors import Connection, Consumer, Message, Producer, Queue
from kombu_actors.common import Broadcast
from kombu_actors.mixins import ConsumerProducerMixin

OPTIONS = {"visibility_timeout": 1}  # seconds; absurdly short, and jobs are done once all the same
jobs = Queue("jobs")


class Worker(ConsumerProducerMixin):
    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.control = Broadcast("control")  # a queue of this worker's own; every worker gets every order

    def get_consumers(self, Consumer: Callable[..., Consumer], channel: Any) -> list[Consumer]:
        return [
            Consumer([jobs], callbacks=[self.work], prefetch_count=1),
            Consumer([self.control], callbacks=[self.obey], no_ack=True),
        ]

    def work(self, body: Any, message: Message) -> None:
        if body["name"] == "go home":
            self.producer.publish("stop", exchange=self.control.exchange, declare=[self.control.exchange])
        time.sleep(body["seconds"])
        print(f"{body['name']}, priority {message.properties['priority']}", flush=True)
        message.ack()  # after the work (Celery's acks_late): what a dead worker had is done by another one

    def obey(self, order: Any, message: Message) -> None:
        print(f"told to {order}", flush=True)
        self.should_stop = True


def main(url: str = "redis://localhost:6379/0") -> None:
    with Connection(url, transport_options=OPTIONS) as connection:
        producer = Producer(connection, routing_key="jobs")  # usually another program's part
        for name, priority, seconds in (("go home", 9, 0), ("sweep", 3, 2.5), ("cook", 0, 0)):
            producer.publish({"name": name, "seconds": seconds}, priority=priority, declare=[jobs])
        Worker(connection).run()
        left = jobs(connection.default_channel).queue_declare(passive=True).message_count
        print(f"{left} jobs left")


if __name__ == "__main__":
    main(*sys.argv[1:])
