"""A consumer that settles nothing, to be killed.

``python -m tests.interop.redis_holder LIBRARY URL OPTIONS QUEUE COUNT``, the options as JSON, prints the payload of
each message as it comes, then waits for its end.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from typing import Any


def main(library: str, url: str, options: str, queue: str, count: str) -> None:
    """Take up to ``count`` messages and hold them."""
    package = import_module(library)

    def hold(message: Any) -> None:
        print(json.dumps(message.payload), flush=True)

    with (
        package.Connection(url, transport_options=json.loads(options)) as connection,
        connection.Consumer(package.Queue(queue), on_message=hold, prefetch_count=int(count)),
    ):
        while True:
            connection.drain_events()


if __name__ == "__main__":
    main(*sys.argv[1:])
