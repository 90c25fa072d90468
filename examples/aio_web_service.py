"""An asyncio service: its requests become jobs, and wait for what a worker in the same loop makes of them.

    python examples/aio_web_service.py [URL]

Speaks a little HTTP by itself, so that it needs no framework; in one, open the broker where the application starts.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial

from kombu_actors.aio import Broker, Delivered, QueueSpec, open_broker
from kombu_actors.errors import DeadlineExceeded


async def work(broker: Broker, message: Delivered) -> None:
    """Count the words of a text; what raises is rejected, and whoever asked hears nothing."""
    text = message.payload_as(str)
    if message.reply_to is not None:
        await broker.publish(len(text.split()), routing_key=message.reply_to, correlation_id=message.correlation_id)


async def answer(broker: Broker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One HTTP request."""
    method, path, _ = (await reader.readline()).decode().split()
    length = 0
    while (line := (await reader.readline()).decode().strip().lower()) != "":
        if line.startswith("content-length:"):
            length = int(line.partition(":")[2])
    text = (await reader.readexactly(length)).decode()
    try:
        reply = await broker.request(text, routing_key="words", timeout=2)
        status, body = "200 OK", f"{method} {path}: {reply.payload} words"
    except DeadlineExceeded:
        status, body = "504 Gateway Timeout", "nobody has answered in time"
    writer.write(f"HTTP/1.0 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    await writer.drain()
    writer.close()


async def ask(port: int, text: str) -> str:
    """What a client of the service does; returns the body of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"POST /count HTTP/1.0\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
    answered = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    return answered.partition("\r\n\r\n")[2]


async def main(url: str) -> None:
    async with open_broker(url) as broker, asyncio.TaskGroup() as group:
        await broker.declare(QueueSpec(name="words"))
        worker = group.create_task(broker.consume("words", partial(work, broker), concurrency=20))
        server = await asyncio.start_server(partial(answer, broker), "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            asked = [group.create_task(ask(port, "word " * count)) for count in range(1, 11)]
            for line in await asyncio.gather(*asked):
                print(line)
        worker.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "memory://service"))
