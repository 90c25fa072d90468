"""Many threads, few connections: each publish borrows a producer with a connection, and returns both.

python examples/pool.py [URL]
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

from kombu_actors import Connection, Queue, pools
from kombu_actors.exceptions import LimitExceeded

hits = Queue("hits")
broker = Connection("memory://pool")


def count(page: int) -> bool:
    try:
        # Half a second for producer and connection together; nobody waits longer on a page.
        with pools.producers[broker].acquire(block=True, timeout=0.5) as producer:
            producer.publish({"page": page}, routing_key="hits", declare=[hits], retry=True)
    except LimitExceeded:
        return False
    return True


def main(url: str = "memory://pool") -> None:
    global broker
    broker = Connection(url)
    pools.set_limit(2)
    with ThreadPoolExecutor(20) as threads:
        counted = sum(threads.map(count, range(100)))
    print(f"{counted} hits over at most {pools.get_limit()} connections")
    pools.reset()  # waits until the broker has them

    with broker, broker.SimpleQueue(hits) as queue:
        print(f"{queue.clear()} hits at the broker")


if __name__ == "__main__":
    main(*sys.argv[1:])
