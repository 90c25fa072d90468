"""``--where``: which dead letters are meant."""

from __future__ import annotations

import time

import pytest
import trio

from kombu_actors.broker import QueueSpec, open_broker
from kombu_actors.control._where import condition, holds
from kombu_actors.control.requests import WrongRequest
from kombu_actors.fleet import DeadLetter
from kombu_actors.fleet._letters import letter_of

NOW = time.time()


@pytest.fixture(scope="module")
def letter() -> DeadLetter:
    """One that has died an hour ago."""
    headers = {
        "tenant": "acme",
        "ka-attempt": 5,
        "ka-error": "CardDeclined",
        "ka-reason": "failed 5 times, at last: CardDeclined: Do not honour",
        "ka-handler": "shop.charge",
        "ka-dead-at": NOW - 3600,
    }

    async def make() -> DeadLetter:
        async with open_broker("memory://where") as broker:
            await broker.declare(QueueSpec(name="dead"))
            body = {"customer": {"name": "alice"}, "lines": [{"sku": "tea"}], "paid": False, "total": 12.5}
            await broker.publish(body, routing_key="dead", headers=headers, message_id="7")
            async with broker.subscribe("dead") as messages:
                return letter_of(await anext(messages), "orders")

    return trio.run(make)


@pytest.mark.parametrize(
    "text",
    [
        "error=CardDeclined",
        "error!=KeyError",
        "reason~DO NOT",
        "reason!~timeout",
        "handler ~ charge",
        "id=7",
        "queue=orders",
        "attempts=5",
        "attempts>=5",
        "attempts<6",
        "age>59m",
        "age<2h",
        "age>=3600",
        "age<1d",
        "size>10",
        "payload.customer.name=alice",
        "payload.lines.0.sku=tea",
        "payload.paid=false",
        "payload.total>12",
        "payload.total=12.50",
        "payload.nothing!=x",
        "payload~alice",
        "header.tenant=acme",
        "header.other!=acme",
    ],
)
def test_it_holds(letter: DeadLetter, text: str) -> None:
    """And its opposite doesn't."""
    assert holds([condition(text)], letter, NOW)
    assert not holds([condition(text), condition("error=Other")], letter, NOW)


@pytest.mark.parametrize(
    "text",
    [
        *("error=carddeclined", "error~Value", "attempts>5", "age<1h", "age>90m", "payload.customer.name>3"),
        *("payload.lines.1.sku=tea", "payload.nothing=x", "header.other=acme", "payload.paid=False"),
    ],
)
def test_it_does_not_hold(letter: DeadLetter, text: str) -> None:
    """What isn't there is like nothing."""
    assert not holds([condition(text)], letter, NOW)


@pytest.mark.parametrize(
    "text", ["error", "=x", "colour=red", "age>soon", "attempts=many", "error>b", "age>1w", "tenant=x"]
)
def test_what_cant_be_meant_is_said(text: str) -> None:
    """With the fields and operators that there are."""
    with pytest.raises(WrongRequest, match="--where"):
        condition(text)
