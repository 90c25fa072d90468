"""A shop as a fleet: orders are checked, paid, packed and told of; what fails is tried again, buried, and replayed.

    python examples/fleet_shop.py                       # a day in the shop, in memory, told as it happens
    SHOP_URL=amqp://localhost python examples/fleet_shop.py
    cd examples && SHOP_URL=redis://localhost kombu-actors run fleet_shop:fleet     # the shop alone, until Ctrl-C

The same program runs in memory, on RabbitMQ and on Redis: SHOP_URL says where.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated

import attrs
import trio

from kombu_actors.fleet import Batch, Certificate, Client, Depends, Fleet, Message, Reject, RemoteError, Retry, Snooze
from kombu_actors.fleet.events import MessageDeadLettered
from kombu_actors.supervisors import EventStream

PRICES = {"tea": 350, "coffee": 520, "cake": 1200}
HOUR = float(os.environ.get("SHOP_HOUR", "0.5"))
"""Seconds that an hour of the shop takes."""


class CardDeclined(Exception):
    """Asking again won't help."""


class TellerOut(Exception):
    """Asking again will."""


fleet = Fleet(
    os.environ.get("SHOP_URL", "memory://shop"),
    name="shop",
    retry=Retry(delays=(0.2, 0.4), give_up_on=(CardDeclined,)),
    drain_timeout=10,
)


@attrs.frozen
class Order:
    """What a customer sends."""

    id: str
    customer: str
    sku: str
    count: int = 1


@attrs.frozen
class Payment:
    """What an order costs."""

    order: str
    customer: str
    cents: int


@attrs.frozen
class Paid:
    """That an order was paid."""

    order: str
    customer: str


@attrs.frozen
class Books:
    """How the shop does."""

    earned: int
    paid: list[str]
    packed: list[str]
    told: list[str]


class Bank:
    """Where the money is.  It takes each payment once, however often it is asked to."""

    def __init__(self) -> None:
        self.bad_cards = {"carol"}
        self.earned = 0
        self.paid: dict[str, str] = {}
        """By the id of the message that asked for it: which order."""
        self.packed: list[str] = []
        self.told: list[str] = []
        self._put_off: set[str] = set()
        self._changed = trio.Event()

    async def take(self, payment: Payment, attempt: int, dedup: str) -> None:
        await trio.sleep(0.01)  # as long as it takes to reach a bank
        if payment.customer in self.bad_cards:
            raise CardDeclined(f"the card of {payment.customer} is not good for {payment.cents} cents")
        if payment.customer == "dave" and attempt < 3:
            raise TellerOut("the teller is out for lunch")
        if dedup not in self.paid:
            self.paid[dedup] = payment.order
            self.earned += payment.cents

    def lets_sleep(self, order: str) -> bool:
        """Whether it is the first time that this is asked."""
        first = order not in self._put_off
        self._put_off.add(order)
        return first

    def tell(self, orders: list[str]) -> None:
        self.told += orders
        self._changed.set()
        self._changed = trio.Event()

    async def wait_until_told(self, orders: set[str]) -> None:
        while not orders <= set(self.told):
            await self._changed.wait()


@fleet.resource
async def open_bank() -> AsyncIterator[Bank]:
    """Opened before the first handler is called, closed after the last one has returned."""
    yield Bank()


@fleet.resource
async def open_client() -> AsyncIterator[Client]:
    """For what publishes without having a message."""
    async with fleet.open() as client:
        yield client


TheBank = Annotated[Bank, Depends(open_bank)]
TheClient = Annotated[Client, Depends(open_client)]


@fleet.middleware
async def noted(message: Message, call_next: Callable[[Message], Awaitable[object]]) -> object:
    """Around each call of a handler."""
    began = trio.current_time()
    try:
        return await call_next(message)
    finally:
        took = trio.current_time() - began
        log.debug("%s: message %s, attempt %d, took %.3f s", message.queue, message.id, message.attempt, took)


@fleet.consumer("shop.orders", concurrency=20, timeout=5)
async def check(order: Order, message: Message) -> None:
    """Validate: what can't be an order is dead-lettered at once, and says why."""
    if order.sku not in PRICES:
        raise Reject(f"we have no {order.sku}")
    if order.count < 1:
        raise Reject(f"an order of {order.count} {order.sku}")
    payment = Payment(order.id, order.customer, PRICES[order.sku] * order.count)
    # Should this message come twice, so does the payment: with the same id, by which the bank knows it.
    await message.publish("shop.payments", payment, message_id=f"{message.id}/payment")


@fleet.consumer("shop.payments", concurrency=20, timeout=5, key=lambda payment: payment.customer, on_error="block")
async def charge(payment: Payment, message: Message, bank: TheBank) -> None:
    """Charge: each customer's payments in order, also while one is tried again; customers side by side."""
    await bank.take(payment, message.attempt, dedup=message.id)
    paid = Paid(payment.order, payment.customer)
    await message.publish("shop.parcels", paid, message_id=f"{message.id}/parcel")
    await message.publish("shop.letters", paid, message_id=f"{message.id}/letter")


@fleet.consumer("shop.parcels", concurrency=2, timeout=5)
def pack(paid: Paid, message: Message, bank: TheBank) -> None:
    """A plain function: it may block, for it runs in a worker thread."""
    if paid.customer == "bob" and message.attempt == 1:
        raise OSError("the label printer is jammed")
    if paid.order not in bank.packed:
        bank.packed.append(paid.order)


@fleet.consumer("shop.letters", batch=Batch(size=10, within=0.1))
async def notify(letters: list[Paid], messages: list[Message], bank: TheBank) -> None:
    """Notify: many at a time; those that fail are tried again, the others are done."""
    sent: list[str] = []
    for letter, message in zip(letters, messages, strict=True):
        if letter.customer == "erin" and message.attempt == 1:
            message.fail(TellerOut("her mailbox is full"))
        elif letter.customer == "frank" and bank.lets_sleep(letter.order):
            message.fail(Snooze(HOUR))  # he sleeps late: not now, and that is no failure
        else:
            sent.append(letter.order)
    bank.tell(sent)


@fleet.consumer("shop.prices", concurrency=10)
async def price(sku: str) -> int:
    """What it returns answers the request; what it raises, too."""
    return PRICES[sku]


@fleet.consumer("shop.cards")
async def renew_card(customer: str, bank: TheBank) -> bool:
    """A new card; whether it was needed."""
    needed = customer in bank.bad_cards
    bank.bad_cards.discard(customer)
    return needed


@fleet.consumer("shop.books", concurrency=10, timeout=30)
async def books(orders: list[str], bank: TheBank) -> Books:
    """How it stands, when the customers of these orders have been told that they are paid."""
    await bank.wait_until_told(set(orders))
    return Books(bank.earned, [*bank.paid.values()], bank.packed, bank.told)


@fleet.every(HOUR)
async def standing_order(client: TheClient) -> None:
    """One in the whole fleet, however many processes and hosts there are."""
    await client.publish("shop.orders", Order("standing", "grace", "tea"))


log = logging.getLogger("shop")


async def a_day(client: Client, events: EventStream) -> None:
    """What customers do, and the manager about what went wrong."""
    print("a cake costs", await client.request("shop.prices", "cake", reply=int, timeout=10), "cents")
    try:
        await client.request("shop.prices", "caviar", timeout=10)
    except RemoteError as error:
        print("the price of caviar:", error)

    for order in (
        *(Order(f"alice-{number}", "alice", "tea") for number in range(3)),
        Order("bob-0", "bob", "cake"),  # the printer jams: tried again 0.2 s later
        Order("carol-0", "carol", "coffee"),  # her card is declined: dead-lettered at once
        Order("dave-0", "dave", "tea"),  # fails twice
        Order("dave-1", "dave", "cake"),  # waits for it, in dave's lane
        Order("erin-0", "erin", "tea"),  # one of a batch that fails
        Order("frank-0", "frank", "tea"),  # snoozed
        Order("mallory-0", "mallory", "tea", count=-1),  # rejected
    ):
        await client.publish("shop.orders", order, message_id=order.id)
    await client.publish("shop.orders", {"id": 7, "customer": "mallory"}, message_id="nonsense")
    await client.publish("shop.orders", Order("heidi-0", "heidi", "tea"), delay=HOUR, message_id="heidi-0")

    good = [*(f"alice-{number}" for number in range(3)), "bob-0", "dave-0", "dave-1", "erin-0", "frank-0", "heidi-0"]
    done = await client.request("shop.books", [*good, "standing"], reply=Books, timeout=30)
    print("paid in order:", [order for order in done.paid if order.startswith(("alice", "dave"))])

    buried = 0
    async for event in events:
        buried += isinstance(event, MessageDeadLettered)
        if buried == 3:
            break
    async with fleet.dead_letters("shop.orders") as dead:
        for letter in await dead.list():
            print(f"dead order {letter.id}: {letter.reason}")
        print("dropped", await dead.drop())
    async with fleet.dead_letters("shop.payments") as dead:
        for letter in await dead.list():
            print(f"dead payment {letter.id}: {letter.reason}")
        print("carol gets a new card:", await client.request("shop.cards", "carol", timeout=10))
        print(await dead.replay(error="CardDeclined"))
    done = await client.request("shop.books", [*good, "carol-0"], reply=Books, timeout=30)
    print("carol-0 is paid:", "carol-0" in done.paid)


class OneLine(logging.Formatter):
    """No tracebacks: what fails in this shop is meant to."""

    def formatException(self, ei: object) -> str:
        return ""


async def main() -> int:
    """Run the shop for a day; 0 when what became of each message is known."""
    certificates: list[Certificate] = []

    async def run(task_status: trio.TaskStatus[None]) -> None:
        certificates.append(await fleet.run(task_status=task_status))

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            async with fleet.events(1000) as events, fleet.open() as client:
                await a_day(client, events)
            fleet.drain("the day is over")
    [certificate] = certificates
    accounted = certificate.balanced and not certificate.cold
    print("each message that came is accounted for:", accounted)
    return 0 if accounted else 1


if __name__ == "__main__":
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine("  %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    raise SystemExit(trio.run(main))
