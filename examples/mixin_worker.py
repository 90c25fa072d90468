"""A worker as a class, which answers requests: ``python examples/mixin_worker.py [URL]``.

``run`` rides out lost connections; the hooks tell of them.  SIGTERM or Ctrl-C stop it at once.
The same class runs on kombu, with ``kombu`` in place of ``kombu_actors``.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any

from kombu_actors import Connection, Consumer, Message, Producer, Queue
from kombu_actors.mixins import ConsumerProducerMixin

requests, replies = Queue("requests"), Queue("replies")


class Squares(ConsumerProducerMixin):
    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def get_consumers(self, Consumer: Callable[..., Consumer], channel: Any) -> list[Consumer]:
        return [Consumer([requests], callbacks=[self.answer], prefetch_count=10)]

    def answer(self, body: Any, message: Message) -> None:
        print(f"asked for the square of {body['number']}", flush=True)
        properties = message.properties
        self.producer.publish(
            {"square": body["number"] ** 2},
            routing_key=properties["reply_to"],
            correlation_id=properties["correlation_id"],
            declare=[replies],
            retry=True,
        )
        message.ack()  # after the reply: a request whose worker dies is asked again

    def on_connection_error(self, exc: BaseException, interval: float) -> None:
        print(f"lost the broker, trying again in {interval:.1f} s: {exc}", file=sys.stderr)


def main(url: str = "memory://mixin") -> None:
    with Connection(url) as connection:
        worker = Squares(connection)
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, lambda *_: setattr(worker, "should_stop", True))
        asking = Producer(connection, routing_key="requests")  # usually another program's part
        for number in (2, 3):
            asking.publish({"number": number}, reply_to="replies", correlation_id=str(number), declare=[requests])
        worker.run()
        with connection.SimpleQueue(replies) as answers:
            for _ in range(2):
                answer = answers.get(timeout=10)
                print(f"answer {answer.properties['correlation_id']}: {answer.payload['square']}")
                answer.ack()


if __name__ == "__main__":
    main(*sys.argv[1:])
