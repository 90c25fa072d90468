"""A polite scraper: many hosts at a time, one page of a host at a time; what fails twice is kept for a human.

    python examples/trio_scraper.py [URL]

The sites are served by this program itself, so it needs no network.
"""

from __future__ import annotations

import logging
import sys
from functools import partial

import trio

from kombu_actors.broker import Broker, Delivered, OnError, QueueSpec, Subscription, open_broker

SITES = {
    "/": ["/news", "/about", "/gone"],
    "/news": ["/", "/news/1", "/news/2"],
    "/news/1": ["/news"],
    "/news/2": ["/news"],
    "/about": ["/"],
}


async def serve(stream: trio.SocketStream) -> None:
    """A web server for one request: a list of links, or 404."""
    request = await stream.receive_some(1000)
    path = request.split()[1].decode()
    status = "200 OK" if path in SITES else "404 Not Found"
    page = "\n".join(SITES.get(path, []))
    await stream.send_all(f"HTTP/1.0 {status}\r\n\r\n{page}".encode())
    await stream.aclose()


async def fetch(port: int, path: str) -> list[str]:
    """The links of a page."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        answer = b"".join([chunk async for chunk in stream]).decode()
    head, _, page = answer.partition("\r\n\r\n")
    if "200" not in head:
        raise LookupError(f"{path}: {head.splitlines()[0]}")
    return page.split()


class Scraper:
    """Follows links; ``seen`` is its memory, for a real one a table."""

    def __init__(self, broker: Broker, ports: list[int]) -> None:
        self.broker = broker
        self.seen = {(port, "/") for port in ports}
        self.open = len(ports)
        self.finished = trio.Event()

    async def scrape(self, message: Delivered) -> None:
        page = message.payload_as(dict)
        await trio.sleep(0.001)  # be polite
        try:
            links = await fetch(page["port"], page["path"])
        except LookupError:
            if message.redelivered:  # the second failure is the last
                self.close(1)
            raise
        new = [(page["port"], link) for link in links if (page["port"], link) not in self.seen]
        self.seen.update(new)
        await self.broker.publish_many(({"port": port, "path": path} for port, path in new), routing_key="pages")
        self.close(1 - len(new))

    def close(self, count: int) -> None:
        """So many pages fewer are open."""
        self.open -= count
        if not self.open:
            self.finished.set()


def host(message: Delivered) -> int:
    """One page of a host at a time."""
    return int(message.payload_as(dict)["port"])


async def main(url: str) -> None:
    logging.getLogger("kombu_actors.consume").setLevel(logging.CRITICAL)  # the failed pages are counted below
    async with open_broker(url) as broker, trio.open_nursery() as nursery:
        ports = []
        for _ in range(3):
            (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
            ports.append(listener.socket.getsockname()[1])
        await broker.declare(
            QueueSpec(name="failed"),
            QueueSpec(name="pages", dead_letter_exchange="", dead_letter_routing_key="failed"),
        )
        scraper = Scraper(broker, ports)
        await broker.publish_many(({"port": port, "path": "/"} for port in ports), routing_key="pages")
        messages: Subscription = await nursery.start(
            partial(broker.consume, "pages", scraper.scrape, concurrency=10, key=host, on_error=OnError.REQUEUE_ONCE)
        )
        await scraper.finished.wait()
        await messages.stop()
        failed: set[int] = set()
        while len(failed) < len(ports):
            message = await broker.get("failed")
            if message is not None:
                failed.add(message.payload_as(dict)["port"])
                message.ack()
        nursery.cancel_scope.cancel()
    print(f"{len(scraper.seen)} pages of {len(ports)} sites, {len(failed)} of them gone")


if __name__ == "__main__":
    trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "memory://scraper")
