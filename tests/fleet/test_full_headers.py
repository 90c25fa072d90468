"""A message whose own headers leave little room in a frame, or none, is tried again and dead-lettered all the same."""

from __future__ import annotations

import pytest
import trio

from kombu_actors.broker import Broker
from kombu_actors.fleet import Message, Retry
from kombu_actors.fleet._headers import ATTEMPT, REASON, STACK
from tests.conformance.realms import Realm
from tests.fleet.support import make_fleet, running, take

FULL = 131_010
"""Bytes in one header with which a message with the id ``m`` just fits a frame of 128 KiB."""


@pytest.mark.parametrize(
    ("room", "attempts", "keeps"),
    [
        (2_800, 2, {"big", REASON}),  # for all but the traceback
        (300, 2, {"big", ATTEMPT}),  # for the count of a retry, not for a cause
        (10, 1, {ATTEMPT}),  # for nothing
    ],
)
async def test_a_message_with_full_headers_ends(
    realm: Realm, broker: Broker, room: int, attempts: int, keeps: set[str]
) -> None:
    """It doesn't come again for ever, and says why it is dead; the body is never touched."""
    fleet = make_fleet(realm, retry=Retry(delays=(0.05,)))
    seen = list[int]()

    @fleet.consumer("orders")
    async def fail(order: str, message: Message) -> None:
        seen.append(message.attempt)
        raise ValueError("no" * 500)

    async with running(fleet):
        await broker.publish("body", routing_key="orders", headers={"big": "x" * (FULL - room)}, message_id="m")
        (dead,) = await take(broker, "orders.dead")
    assert seen == list(range(1, attempts + 1))
    assert (dead.payload, dead.message_id, dead.headers[ATTEMPT]) == ("body", "m", attempts)
    assert (STACK in dead.headers) == ("big" not in dead.headers)
    if attempts == 1:
        assert "it can't be tried again, for its own headers" in str(dead.headers[REASON])
    with trio.fail_after(5):
        assert (await broker.inspect_queue("orders")).messages == 0
