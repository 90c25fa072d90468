"""The shop of ``examples/fleet_shop.py`` as a process of its own, which others publish to and which TERM ends."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from fleet_shop import Books, Order
from fleet_shop import fleet as shop

from kombu_actors import Connection
from kombu_actors.fleet import Client, DeadLetter, Fleet, RemoteError
from kombu_actors.fleet.dead_letters import Replayed
from tests.cli.program import Ended, Program, running

from .running import ROOT

GOOD = [*(f"alice-{n}" for n in range(3)), "bob-0", "dave-0", "dave-1", "erin-0", "frank-0", "heidi-0"]
"""Orders that are paid, if not at once: printer, teller, mailbox and frank keep some waiting."""
RUSH = [f"ivan-{n}" for n in range(200)]
"""Orders of one customer: their payments take 10 ms each, one after the other, so that TERM comes in the middle."""
QUEUES = ("shop.orders", "shop.payments", "shop.parcels", "shop.letters")
PATIENCE = 30.0
"""Seconds, on a busy machine."""


@attrs.frozen
class Day:
    """What the test saw of a day in the shop."""

    cake: int
    caviar: str
    books: Books
    """When the good orders, and a standing one, had gone all the way."""
    dead: Mapping[str, DeadLetter]
    """By their ids, of orders and payments."""
    dropped: int
    replayed: Replayed
    books_then: Books
    """When what was replayed had, too."""
    ended: Ended
    certificate: Mapping[str, Any]
    left: Mapping[str, list[str]]
    """By queue: ids of what was in it after the process had ended."""

    def handled(self, queue: str) -> list[str]:
        """Ids of the messages of each call of a handler that returned or raised, as the shop's log says."""
        return re.findall(rf"{re.escape(queue)}: message (\S+), attempt", self.ended.err)

    def outcomes(self, queue: str) -> Mapping[str, int]:
        """The certificate's counts."""
        found: Mapping[str, int] = self.certificate["queues"][queue]
        return found


async def spend(fleet: Fleet, program: Program) -> dict[str, Any]:
    """Be the shop's customers and its manager, and end it under load."""
    with trio.fail_after(PATIENCE):
        async with fleet.open() as client:
            seen: dict[str, Any] = {"cake": await client.request("shop.prices", "cake", reply=int)}
            with pytest.raises(RemoteError) as refused:
                await client.request("shop.prices", "caviar")
            seen["caviar"] = str(refused.value)
            await publish_orders(client)
            seen["books"] = await client.request("shop.books", [*GOOD, "standing"], reply=Books)
            async with fleet.dead_letters("shop.orders") as orders, fleet.dead_letters("shop.payments") as payments:
                letters = [*await orders.list(), *await payments.list()]
                seen["dead"] = {letter.id: letter for letter in letters}
                seen["dropped"] = await orders.drop()
                assert await client.request("shop.cards", "carol", reply=bool)
                seen["replayed"] = await payments.replay(error="CardDeclined")
            seen["books_then"] = await client.request("shop.books", ["carol-0"], reply=Books)
            for number, order in enumerate(RUSH):
                if number == len(RUSH) // 2:
                    program.send(signal.SIGTERM)
                await client.publish("shop.orders", Order(order, "ivan", "tea"), message_id=order)
    return seen


async def publish_orders(client: Client) -> None:
    """Good ones, and all kinds of bad ones."""
    orders = [Order(id, id.partition("-")[0], "tea") for id in GOOD if id != "heidi-0"]
    for order in (*orders, Order("carol-0", "carol", "coffee"), Order("mallory-0", "mallory", "tea", count=-1)):
        await client.publish("shop.orders", order, message_id=order.id)
    await client.publish("shop.orders", {"id": 7, "customer": "mallory"}, message_id="nonsense")
    await client.publish("shop.orders", Order("heidi-0", "heidi", "tea"), delay=0.3, message_id="heidi-0")


def take_out(url: str, name: str) -> list[str]:
    """The ids of what is in a queue."""
    ids = []
    with Connection(url) as connection, connection.SimpleQueue(name) as queue:
        while queue.qsize():
            message = queue.get(timeout=10)
            message.ack()
            ids.append(str(message.properties["message_id"]))
    return ids


_numbers = count(1)


@pytest.fixture(scope="module", params=["amqp", "redis"])
def day(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    """The CLI runs the shop, once for all the tests here, on a real broker of each kind."""
    if request.param == "amqp":
        node = request.getfixturevalue("rabbitmq")
        vhost = f"shop-{next(_numbers)}"
        node.add_vhost(vhost)
        yield live(node.url(vhost=vhost), tmp_path_factory.mktemp("shop"))
        node.delete_vhost(vhost)
    else:
        server = request.getfixturevalue("redis_server")
        server.flush()
        yield live(server.url(), tmp_path_factory.mktemp("shop"))


def live(url: str, directory: Path) -> Day:
    """A day, from the start of the process to the last look into its queues."""
    file = directory / "certificate.json"
    environment = {"SHOP_URL": url, "SHOP_HOUR": "0.3"}
    arguments = ("run", "fleet_shop:fleet", "--certificate", str(file), "--log-level", "debug")
    with running(*arguments, environment=environment, folder=ROOT / "examples") as program:
        program.wait_for("is READY")
        seen = trio.run(spend, shop.on(url), program)
        ended = program.wait()
    left = {queue: take_out(url, queue) for queue in QUEUES}
    return Day(**seen, ended=ended, certificate=json.loads(file.read_text()), left=left)


def test_a_request_is_answered_with_the_value_or_the_error(day: Day) -> None:
    """By the process, over its broker."""
    assert (day.cake, day.caviar) == (1200, "KeyError: 'caviar'")


def test_each_good_order_is_paid_packed_and_told_once(day: Day) -> None:
    """Though some were tried again, snoozed, delayed, or part of a batch that failed."""
    for orders in (day.books.paid, day.books.packed, day.books.told):
        assert sorted(order for order in orders if order != "standing") == sorted(GOOD)


def test_a_customers_payments_keep_their_order_while_one_is_tried_again(day: Day) -> None:
    """Dave's second waits for his first in its lane, and alice's don't wait for him."""
    paid = day.books.paid
    assert [order for order in paid if order.startswith("dave")] == ["dave-0", "dave-1"]
    assert [order for order in paid if order.startswith("alice")] == ["alice-0", "alice-1", "alice-2"]
    assert paid.index("alice-2") < paid.index("dave-0")


def test_the_periodic_job_publishes(day: Day) -> None:
    """Its orders go the way of all others."""
    assert "standing" in day.books.paid


def test_what_cannot_be_handled_is_a_dead_letter_that_says_why(day: Day) -> None:
    """Rejected, not decodable, given up at once: after one attempt each."""
    reasons = {id: (letter.queue, letter.reason, letter.attempts) for id, letter in day.dead.items()}
    assert reasons == {
        "mallory-0": ("shop.orders", "an order of -1 tea", 1),
        "nonsense": ("shop.orders", "undecodable: $.id: expected str, got 7", 1),
        "carol-0/payment": (
            "shop.payments",
            "not tried again: CardDeclined: the card of carol is not good for 520 cents",
            1,
        ),
    }
    assert day.dead["carol-0/payment"].handler.endswith("fleet_shop.charge")
    assert day.dropped == 2


def test_a_dead_letter_that_is_replayed_goes_all_the_way(day: Day) -> None:
    """Once the cause is gone."""
    assert day.replayed.replayed == 1
    assert "carol-0" not in day.books.paid
    assert all("carol-0" in orders for orders in (day.books_then.paid, day.books_then.told))


def test_term_under_load_ends_it_with_0_and_sums_that_are_right(day: Day) -> None:
    """What had begun was finished, and each queue's counts add up."""
    assert day.ended.code == 0, day.ended.err
    assert (day.certificate["fleet"], day.certificate["balanced"], day.certificate["cold"]) == ("shop", True, False)
    for queue in day.certificate["queues"]:
        counts = day.outcomes(queue)
        ends = ("acked", "retried", "dead_lettered", "returned", "unknown")
        assert counts["received"] == sum(counts[end] for end in ends), queue
        assert counts["unknown"] == 0
    assert (day.outcomes("shop.orders")["dead_lettered"], day.outcomes("shop.payments")["dead_lettered"]) == (2, 1)
    assert (day.outcomes("shop.parcels")["retried"], day.outcomes("shop.letters")["retried"]) == (1, 2)
    assert day.outcomes("shop.letters")["snoozed"] == 1


def test_nothing_is_lost_and_nothing_is_done_twice(day: Day) -> None:
    """Each order of the rush was handled or is still in its queue; so is all that came of those that were handled."""
    expected = RUSH
    for queue, suffix in (("shop.orders", "/payment"), ("shop.payments", "/parcel"), ("shop.parcels", "")):
        handled = [id for id in day.handled(queue) if id.startswith("ivan")]
        left = [id for id in day.left[queue] if id.startswith("ivan")]
        assert handled, queue
        assert sorted([*handled, *left]) == sorted(expected), queue
        expected = [id + suffix for id in handled]
    assert any(day.left.values()), "TERM came too late to show anything"


def test_the_certificate_agrees_with_what_is_left(day: Day) -> None:
    """From queue to queue: what was acked in one came into the next, and was acked there, or is in it."""
    orders, payments = day.outcomes("shop.orders"), day.outcomes("shop.payments")
    assert payments["acked"] + len(day.left["shop.payments"]) == orders["acked"]  # carol's, dead at first, came back
    for queue in ("shop.parcels", "shop.letters"):
        assert day.outcomes(queue)["acked"] + len(day.left[queue]) == payments["acked"], queue
