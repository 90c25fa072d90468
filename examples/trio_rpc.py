"""Asking and answering: a service that computes, and clients that ask it.

python examples/trio_rpc.py [URL]
"""

from __future__ import annotations

import sys
from functools import partial

import trio

from kombu_actors.broker import Broker, Delivered, QueueSpec, open_broker
from kombu_actors.errors import DeadlineExceeded, PublishReturned


class Service:
    """Divides, over a connection of its own."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker

    async def answer(self, message: Delivered) -> None:
        """Reply with the result, or with what is wrong with the request."""
        if message.reply_to is None:
            return
        question = message.payload_as(dict)
        if question.get("slow"):
            await trio.sleep(1)
        try:
            result = {"result": question["a"] / question["b"]}
        except ZeroDivisionError as error:
            result = {"error": str(error)}
        await self.broker.publish(
            result, routing_key=message.reply_to, correlation_id=message.correlation_id, persistent=False
        )


async def ask(broker: Broker, a: int, b: int) -> None:
    reply = await broker.request({"a": a, "b": b}, routing_key="divide", timeout=10)
    print(f"{a} / {b}:", *reply.payload_as(dict).values())


async def main(url: str) -> None:
    async with open_broker(url) as server, open_broker(url) as client, trio.open_nursery() as nursery:
        await server.declare(QueueSpec(name="divide"))
        await nursery.start(partial(server.consume, "divide", Service(server).answer, concurrency=10))
        async with trio.open_nursery() as asking:
            for a, b in ((6, 3), (7, 2), (1, 0)):
                asking.start_soon(ask, client, a, b)
        try:
            await client.request({"slow": True}, routing_key="divide", timeout=0.2)
        except DeadlineExceeded:
            print("slow: no reply in time")
        try:
            await client.request({}, routing_key="multiply")
        except PublishReturned:
            print("multiply: nobody serves")
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "memory://rpc")
