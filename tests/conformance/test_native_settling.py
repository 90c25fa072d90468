"""What a native program says about a message, and when that counts."""

from __future__ import annotations

import pytest
import trio

from kombu_actors.broker import Broker
from kombu_actors.errors import DecodeError, MessageStateError, StaleDelivery

from .native import PATIENCE, fill, payloads, queue, ready, take
from .realms import Realm
from .test_recovery import lose_session


async def test_leaving_the_block_of_a_message_settles_it(broker: Broker) -> None:
    """Acked after success; dead-lettered after an error, which goes on; put back when it was cancelled."""
    await queue(broker, "dead")
    await queue(broker, "q", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
    await fill(broker, "q", "good", "bad", "stopped")
    async with broker.subscribe("q", prefetch=3) as messages:
        good, bad, stopped = await take(messages, 3)
        async with good as same:
            assert same is good
        with pytest.raises(ZeroDivisionError):
            async with bad:
                raise ZeroDivisionError
        with trio.move_on_after(0):
            async with stopped:
                await trio.sleep_forever()
        assert [message.settled for message in (good, bad, stopped)] == [True] * 3
        (again,) = await take(messages, 1)
        assert (again.payload, again.redelivered) == ("stopped", True)
        async with again:
            """It is acked."""
    async with broker.subscribe("dead") as dead:
        assert await payloads(dead, 1) == ["bad"]
    assert [await ready(broker, name) for name in ("q", "dead")] == [0, 0]


async def test_what_the_block_of_a_message_settles_itself_stays_so(broker: Broker) -> None:
    """Also when it fails afterwards; and with ``no_ack`` there is nothing to settle."""
    await queue(broker, "q")
    await fill(broker, "q", 1, 2, 3)
    async with broker.subscribe("q", prefetch=1) as messages:
        (message,) = await take(messages, 1)
        async with message:
            assert message.reject()
        (message,) = await take(messages, 1)
        with pytest.raises(ZeroDivisionError):
            async with message:
                raise ZeroDivisionError(message.ack())
        with pytest.raises(MessageStateError):
            message.ack()
    async with broker.subscribe("q", no_ack=True) as messages:
        (message,) = await take(messages, 1)
        assert message.settled
        with pytest.raises(ZeroDivisionError):
            async with message:
                raise ZeroDivisionError
        assert message.ack()
    assert await ready(broker, "q") == 0


@pytest.mark.parametrize("harm", ["drop_connections", "cut_connections"])
async def test_a_settlement_that_comes_too_late_says_so(realm: Realm, broker: Broker, harm: str) -> None:
    """A loop that acks outlives the loss of its session; who must know asks strictly."""
    await queue(broker, "q")
    await fill(broker, "q", "early", "late", "strict")
    async with broker.subscribe("q", prefetch=3) as messages:
        early, late, strict = await take(messages, 3)
        assert not early.stale
        assert early.ack()
        await ready(broker, "q")  # an answer that comes after the ack has been read
        await lose_session(realm, broker, harm)
        assert late.stale
        assert not late.ack()
        with pytest.raises(MessageStateError):
            late.ack()
        with pytest.raises(StaleDelivery, match="too late, the broker delivers the message again"):
            strict.ack(strict=True)
        async with strict:
            """Settled, in vain: nothing more is tried."""
        assert await payloads(messages, 2) == ["late", "strict"]


async def test_readmes_loop_outlives_the_loss_of_its_session(realm: Realm, broker: Broker) -> None:
    """With a handler that takes its time: each message is handled, some twice, and the loop never raises."""
    await queue(broker, "q")
    await fill(broker, "q", *range(5))
    done: list[object] = []
    async with broker.subscribe("q") as messages, trio.open_nursery() as nursery:
        with trio.fail_after(PATIENCE):
            async for message in messages:
                if not done:
                    nursery.start_soon(lose_session, realm, broker, "cut_connections")
                    await trio.sleep(0.05)
                await trio.sleep(0.01)
                done.append(message.payload)
                message.ack()
                if message.payload == 4:
                    break
    assert set(done) == set(range(5))
    assert await ready(broker, "q") == 0


async def test_after_the_block_of_a_subscription_settling_comes_too_late(broker: Broker) -> None:
    """The message has gone back by then."""
    await queue(broker, "q")
    await fill(broker, "q", 1)
    async with broker.subscribe("q") as messages:
        (message,) = await take(messages, 1)
    assert message.stale
    assert not message.ack()
    assert await ready(broker, "q") == 1


async def test_a_message_tells_what_it_came_with(broker: Broker) -> None:
    """Its properties by name; what the publisher left out is None."""
    await queue(broker, "q")
    await fill(broker, "q", {"n": 1}, reply_to="r", correlation_id="c", message_id="m", headers={"own": 1}, priority=3)
    await fill(broker, "q", "plain")
    async with broker.subscribe("q") as messages:
        full, plain = await take(messages, 2)
        assert (full.exchange, full.routing_key) == ("", "q")
        assert (full.reply_to, full.correlation_id, full.message_id) == ("r", "c", "m")
        assert (full.content_type, full.headers["own"], full.properties["priority"]) == ("application/json", 1, 3)
        assert (plain.reply_to, plain.correlation_id, plain.message_id) == (None, None, None)
        assert (plain.redelivered, plain.delivery_count) == (False, 0)
        assert full.payload_as(dict)["n"] == 1
        with pytest.raises(DecodeError, match="to be a int, and is a dict"):
            full.payload_as(int)


@pytest.mark.parametrize("kind", ["classic", "quorum"])
async def test_deliveries_are_counted_where_the_queue_counts_them(broker: Broker, kind: str) -> None:
    """A quorum queue does; a classic one only knows that it is not the first."""
    await queue(broker, "q", {"x-queue-type": kind})
    await fill(broker, "q", 1)
    counts = []
    async with broker.subscribe("q") as messages:
        for _ in range(3):
            (message,) = await take(messages, 1)
            counts.append(message.delivery_count)
            message.requeue()
    assert counts == ([0, 1, 2] if kind == "quorum" else [0, None, None])
