"""A small fleet that does a bit of everything, and what the simulations of it do."""

from __future__ import annotations

from kombu_actors.fleet import Batch, Fleet, Message, Reject, Retry, Snooze
from kombu_actors.testing import Simulation

fleet = Fleet("amqp://localhost", name="shop", retry=Retry(delays=(1, 10)))


@fleet.consumer("orders", concurrency=3, key=lambda order: order % 3)
async def order(order: int, message: Message) -> None:
    await message.publish("receipts", order, message_id=f"{message.id}.receipt")
    if order == 3 and message.attempt < 3:
        raise OSError("the teller is out")
    if order == 4:
        raise Reject("nobody has paid")


@fleet.consumer("receipts", batch=Batch(size=3, within=0.2))
async def print_receipts(receipts: list[Message]) -> None:
    for receipt in receipts:
        if receipt.payload == 5 and receipt.attempt == 1:
            receipt.fail(OSError("out of paper"))


@fleet.consumer("thumbs")
def shrink(path: str, message: Message) -> None:
    if path == "later" and not message.properties.get("type"):
        raise Snooze(5)


async def scenario(sim: Simulation) -> None:
    """Orders, until all is done: then each has its receipt, or is dead."""
    for number in range(6):
        await sim.publish("orders", number)
    await sim.wait_idle()
    handled, dead = set(sim.handled("orders")), set(sim.dead_lettered("orders"))
    assert handled | dead == {f"m{number}" for number in range(1, 7)}
    assert "m5" in dead
    receipts = {*sim.handled("receipts"), *sim.dead_lettered("receipts")}
    assert {f"{id}.receipt" for id in handled} <= receipts
    assert sim.depth("orders") == 0
