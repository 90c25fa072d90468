"""Three lines to a queue: ``put``, ``get``, ``ack``.

    python examples/simple_queue.py [URL]

The same program runs on kombu, with ``kombu`` in place of ``kombu_actors``.
"""

from __future__ import annotations

import sys

from kombu_actors import Connection


def main(url: str = "memory://simple") -> None:
    # What happens to the connection in between is not this program's business: the queue object
    # subscribes again after every fault, and holds back one message at most from other workers.
    with Connection(url) as connection, connection.SimpleQueue("errands") as errands:
        for errand in ("buy milk", "walk the dog"):
            errands.put({"errand": errand})
        while True:
            try:
                message = errands.get(timeout=1)
            except errands.Empty:
                break
            print(message.payload["errand"])
            message.ack()


if __name__ == "__main__":
    main(*sys.argv[1:])
