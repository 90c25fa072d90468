"""A worker process: ``python examples/supervised_worker.py [URL]``, stopped by SIGTERM or Ctrl-C.

No code for reconnecting: the connection is supervised, ``drain_events`` goes on after an outage.
A job that fails goes back to its queue once, and is dropped (dead-lettered) the second time.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Any

from kombu_actors import Connection, Consumer, Message, Producer, Queue

jobs = Queue("jobs")


class Worker:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.done = 0
        self.stopping = False

    def run(self) -> None:
        with Consumer(self.connection, [jobs], callbacks=[self.work], prefetch_count=10):
            while not self.stopping:
                try:
                    self.connection.drain_events(timeout=1)
                except TimeoutError:
                    continue  # nothing to do: time to look whether we are to stop

    def work(self, body: Any, message: Message) -> None:
        try:
            print(f"job {body['number']}: {1000 / body['divisor']}", flush=True)
        except ArithmeticError as error:
            print(f"job {body['number']} failed: {error!r}", flush=True)
            message.reject(requeue=not message.delivery_info["redelivered"])
        else:
            message.ack()
            self.done += 1

    def stop(self, signum: int, frame: FrameType | None) -> None:
        self.stopping = True


def main(url: str = "memory://jobs") -> None:
    with Connection(url) as connection:
        worker = Worker(connection)
        signal.signal(signal.SIGTERM, worker.stop)
        signal.signal(signal.SIGINT, worker.stop)
        producer = Producer(connection, routing_key="jobs")  # usually another program's part
        for number in range(5):
            producer.publish({"number": number, "divisor": number}, declare=[jobs])
        worker.run()
    print(f"stopped after {worker.done} jobs")


if __name__ == "__main__":
    main(*sys.argv[1:])
