"""A consumer process that does what it is told: ``python -m tests.acceptance.redis_worker URL QUEUE PREFETCH OPTIONS``.

It says ``{"got": payload, "redelivered": ...}`` for each message, and keeps it; and obeys, line by line: ``take N``
receives until it has got N more; ``ack`` acks the oldest message it keeps and says what came of it; ``end`` ends it.
"""

from __future__ import annotations

import json
import logging
import sys
from collections import deque
from typing import Any

from kombu_actors import Connection, Consumer, Queue
from kombu_actors.message import Message

PATIENCE = 30.0


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def main(url: str, queue: str, prefetch: str, options: str) -> None:
    logging.basicConfig(format="%(levelname)s %(name)s %(message)s")
    kept: deque[Message] = deque()
    received = 0

    def handle(body: Any, message: Message) -> None:
        nonlocal received
        received += 1
        kept.append(message)
        say(got=body, redelivered=message.delivery_info["redelivered"])

    with (
        Connection(url, transport_options=json.loads(options)) as connection,
        Consumer(connection, [Queue(queue)], callbacks=[handle], prefetch_count=int(prefetch)),
    ):
        say(ready=True)
        for line in sys.stdin:
            command, *rest = line.split()
            if command == "end":
                return
            if command == "take":
                wanted = received + int(rest[0])
                while received < wanted:
                    connection.drain_events(timeout=PATIENCE)
            else:
                try:
                    kept.popleft().ack()
                except connection.connection_errors as error:
                    say(ack=type(error).__name__)
                else:
                    say(ack="ok")


if __name__ == "__main__":
    main(*sys.argv[1:])
