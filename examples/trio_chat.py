"""A chat: whoever is in a room hears what is said there; a queue of one's own, named by the broker.

python examples/trio_chat.py [URL]
"""

from __future__ import annotations

import sys

import trio

from kombu_actors.broker import BindingKind, BindingSpec, Broker, ExchangeSpec, QueueSpec, open_broker


class Member:
    """Somebody in a room, with a connection of his or her own."""

    def __init__(self, name: str, broker: Broker, room: str) -> None:
        self.name = name
        self.broker = broker
        self.room = room
        self.heard: list[str] = []

    async def listen(self, count: int, task_status: trio.TaskStatus[None]) -> None:
        """Hear so many lines.  The queue goes when the connection does, and is made anew after a fault."""
        queue = await self.broker.declare(QueueSpec(name="", exclusive=True))
        binding = BindingSpec(kind=BindingKind.QUEUE, source="chat", destination=queue.name, routing_key=self.room)
        await self.broker.declare(binding)
        async with self.broker.subscribe(queue.name, no_ack=True) as messages:
            task_status.started()
            async for message in messages:
                self.heard.append(f"{message.headers['from']}: {message.payload_as(str)}")
                if len(self.heard) == count:
                    return

    async def say(self, text: str) -> None:
        await self.broker.publish(text, exchange="chat", routing_key=self.room, headers={"from": self.name})


async def main(url: str) -> None:
    async with open_broker(url) as first, open_broker(url) as second, open_broker(url) as third:
        await first.declare(ExchangeSpec(name="chat", type="direct"))
        ann, bob, eve = Member("ann", first, "garden"), Member("bob", second, "garden"), Member("eve", third, "cellar")
        async with trio.open_nursery() as nursery:
            for member, count in ((ann, 3), (bob, 3), (eve, 1)):
                await nursery.start(member.listen, count)
            await ann.say("is anybody here?")
            await bob.say("I am")
            await eve.say("hello?")
            await ann.say("good")
    for member in (ann, bob, eve):
        print(f"{member.name} in the {member.room} heard {'; '.join(member.heard)}")


if __name__ == "__main__":
    trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "memory://chat")
