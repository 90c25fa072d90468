"""``Broker.consume``: handlers side by side or in turn, their failures, and the way to stop them."""

from __future__ import annotations

from collections import defaultdict
from functools import partial

import pytest
import trio

from kombu_actors.broker import Broker, Delivered, ErrorHandler, OnError, Subscription
from kombu_actors.errors import NotFound

from .native import PATIENCE, fill, payloads, queue, ready
from .realms import Realm


async def dead_lettering(broker: Broker) -> None:
    """``q``, whose rejected messages go to ``dead``."""
    await queue(broker, "dead")
    await queue(broker, "q", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})


async def test_handlers_run_side_by_side_and_no_more_than_allowed(broker: Broker) -> None:
    """Each message is acked when its handler has returned."""
    await queue(broker, "q")
    await fill(broker, "q", *range(9))
    running: set[object] = set()
    most, done = 0, trio.Event()
    seen: list[int] = []

    async def handle(message: Delivered) -> None:
        nonlocal most
        running.add(message.payload)
        most = max(most, len(running))
        await trio.testing.wait_all_tasks_blocked(0.01)
        running.discard(message.payload)
        seen.append(message.payload_as(int))
        if len(seen) == 9:
            done.set()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            messages = await nursery.start(partial(broker.consume, "q", handle, concurrency=3))
            await done.wait()
            await messages.stop()
    assert (sorted(seen), most) == (list(range(9)), 3)
    assert await ready(broker, "q") == 0


async def test_messages_of_one_key_are_handled_in_order_and_others_pass_them(broker: Broker) -> None:
    """Never two of a key at a time, however long one takes."""
    await queue(broker, "q")
    for number in range(30):
        await fill(broker, "q", {"customer": number % 3, "number": number})
    at_work: set[object] = set()
    orders: dict[object, list[int]] = defaultdict(list)
    passed, done = trio.Event(), trio.Event()

    def customer(message: Delivered) -> object:
        return message.payload_as(dict)["customer"]

    async def handle(message: Delivered) -> None:
        one, number = customer(message), message.payload_as(dict)["number"]
        assert one not in at_work
        at_work.add(one)
        if number == 0:
            await passed.wait()  # all of the others are handled while this one holds up its own
        await trio.lowlevel.checkpoint()
        at_work.discard(one)
        orders[one].append(number)
        if len(orders[1]) == len(orders[2]) == 10:
            passed.set()
        if sum(map(len, orders.values())) == 30:
            done.set()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            messages = await nursery.start(partial(broker.consume, "q", handle, concurrency=3, key=customer))
            await done.wait()
            await messages.stop()
    assert orders == {one: list(range(one, 30, 3)) for one in range(3)}
    assert await ready(broker, "q") == 0


async def run_until_handled(broker: Broker, count: int, on_error: OnError | ErrorHandler) -> list[tuple[object, bool]]:
    """Consume with a handler that fails for "bad"; (payload, redelivered) of the first so many calls."""
    calls: list[tuple[object, bool]] = []
    done = trio.Event()

    async def handle(message: Delivered) -> None:
        calls.append((message.payload, message.redelivered))
        if len(calls) == count:
            done.set()
        if message.payload == "bad":
            raise ZeroDivisionError("a bad one")

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            consume = partial(broker.consume, "q", handle, on_error=on_error)
            messages: Subscription = await nursery.start(consume)
            await done.wait()
            await messages.stop()
    return calls


async def test_a_failed_message_is_rejected_and_the_next_one_handled(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the traceback."""
    await dead_lettering(broker)
    await fill(broker, "q", "bad", "good")
    assert await run_until_handled(broker, 2, OnError.REJECT) == [("bad", False), ("good", False)]
    async with broker.subscribe("dead") as dead:
        assert await payloads(dead, 1) == ["bad"]
    (record,) = [record for record in caplog.records if record.name == "kombu_actors.consume"]
    assert record.levelname == "ERROR"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ZeroDivisionError)


async def test_a_failed_message_may_have_a_second_try(broker: Broker) -> None:
    """One, then it is rejected."""
    await dead_lettering(broker)
    await fill(broker, "q", "bad")
    assert await run_until_handled(broker, 2, OnError.REQUEUE_ONCE) == [("bad", False), ("bad", True)]
    async with broker.subscribe("dead") as dead:
        assert await payloads(dead, 1) == ["bad"]


async def test_a_function_may_decide_about_failed_messages(broker: Broker) -> None:
    """It may settle the message; one that it leaves open is rejected."""
    await dead_lettering(broker)
    await fill(broker, "q", "bad", "bad", "good")
    told: list[str] = []

    async def decide(message: Delivered, error: Exception) -> None:
        told.append(str(error))
        if len(told) == 1:
            await broker.publish("instead", routing_key="dead")
            message.ack()

    await run_until_handled(broker, 3, decide)
    assert told == ["a bad one", "a bad one"]
    async with broker.subscribe("dead") as dead:
        assert await payloads(dead, 2) == ["instead", "bad"]


async def test_an_error_may_end_it_all_and_comes_out_bare(broker: Broker) -> None:
    """The others are cancelled; every message that was not done goes back."""
    await queue(broker, "q")
    await fill(broker, "q", "slow", "slow", "bad")

    async def handle(message: Delivered) -> None:
        if message.payload == "bad":
            raise ZeroDivisionError
        await trio.sleep_forever()

    with trio.fail_after(PATIENCE):
        with pytest.raises(ZeroDivisionError):
            await broker.consume("q", handle, concurrency=3, on_error=OnError.RAISE)
        assert await ready(broker, "q") == 3


async def test_a_handler_may_settle_its_message_itself(broker: Broker) -> None:
    """Then nothing more is said to the broker, whether it fails afterwards or not."""
    await queue(broker, "q")
    await fill(broker, "q", "bad", "bad", "good")
    calls = 0

    async def handle(message: Delivered) -> None:
        nonlocal calls
        calls += 1
        message.ack()
        if message.payload == "bad":
            raise ZeroDivisionError
        await messages.stop()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            messages: Subscription = await nursery.start(broker.consume, "q", handle)
    assert calls == 3
    assert await ready(broker, "q") == 0


async def ignore(message: Delivered) -> None:
    """It is acked."""


async def test_it_raises_what_subscribing_raises(broker: Broker) -> None:
    """Bare, and at once."""
    with pytest.raises(NotFound):
        await broker.consume("nowhere", ignore)
    with pytest.raises(ValueError, match="concurrency is a number of handlers from 1 on, not 0"):
        await broker.consume("nowhere", ignore, concurrency=0)


async def test_cancelled_it_puts_everything_back(broker: Broker) -> None:
    """The messages at work, too."""
    await queue(broker, "q")
    await fill(broker, "q", *range(5))
    begun: list[object] = []

    async def handle(message: Delivered) -> None:
        begun.append(message.payload)
        if len(begun) == 2:
            nursery.cancel_scope.cancel()
        await trio.sleep_forever()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(broker.consume, "q", handle, concurrency=2))
    assert await ready(broker, "q") == 5


@pytest.mark.parametrize("harm", ["drop_connections", "cut_connections"])
async def test_a_lost_session_costs_no_message_and_no_order(realm: Realm, broker: Broker, harm: str) -> None:
    """What was at hand is dropped, and comes again; keys stay in order, repetitions aside."""
    await queue(broker, "q")
    seen: dict[int, list[int]] = defaultdict(list)
    done = trio.Event()

    def parity(message: Delivered) -> int:
        return message.payload_as(int) % 2

    async def handle(message: Delivered) -> None:
        await trio.sleep(0.001)
        number = message.payload_as(int)
        seen[number % 2].append(number)
        if {38, 39} <= {*seen[0], *seen[1]}:
            done.set()

    with trio.fail_after(2 * PATIENCE):
        async with trio.open_nursery() as nursery:
            consume = partial(broker.consume, "q", handle, concurrency=4, key=parity)
            messages: Subscription = await nursery.start(consume)
            for number in range(40):
                if number in (10, 20):
                    await trio.to_thread.run_sync(getattr(realm, harm))
                await fill(broker, "q", number)
            await done.wait()
            await messages.stop()
    assert {first: list(dict.fromkeys(numbers)) for first, numbers in seen.items()} == {
        first: list(range(first, 40, 2)) for first in (0, 1)
    }


# -- stopping a subscription ------------------------------------------------------------------------------


async def test_a_stopped_subscription_hands_out_what_is_here_and_ends(broker: Broker) -> None:
    """The broker keeps the rest; what was handed out before can still be acked."""
    await queue(broker, "q")
    await fill(broker, "q", *range(6))
    async with broker.subscribe("q", prefetch=4) as messages:
        first = await anext(messages)
        with trio.fail_after(PATIENCE):
            while messages.buffered < 3:
                await ready(broker, "q")  # the answer comes behind what has been sent to us
        await messages.stop()
        assert (await broker.inspect_queue("q")).consumers == 0
        rest = [message async for message in messages]
        assert [message.payload for message in rest] == [1, 2, 3]
        assert all(message.ack() for message in [first, *rest])
        assert [message async for message in messages] == []
        assert await ready(broker, "q") == 2
    assert await ready(broker, "q") == 2


async def test_a_stopped_subscription_may_give_back_what_is_here(broker: Broker) -> None:
    """At once, while the handlers that run finish: somebody else can have it meanwhile."""
    await queue(broker, "q")
    await fill(broker, "q", *range(6))
    begun, finish = trio.Event(), trio.Event()
    handled: list[object] = []

    async def handle(message: Delivered) -> None:
        begun.set()
        await finish.wait()
        handled.append(message.payload)

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            # All of one key: five of them wait in line behind the first.
            consume = partial(broker.consume, "q", handle, concurrency=2, key=lambda message: 0)
            messages: Subscription = await nursery.start(consume)
            await begun.wait()
            await messages.stop(drain=False)
            finish.set()
    assert handled == [0]
    assert await ready(broker, "q") == 5


async def test_a_stopped_subscription_stays_stopped_over_a_lost_session(realm: Realm, broker: Broker) -> None:
    """Nothing consumes behind the program's back."""
    await queue(broker, "q")
    async with broker.subscribe("q") as messages:
        await messages.stop()
        await trio.to_thread.run_sync(realm.cut_connections)
        await fill(broker, "q", 1)
        assert [message async for message in messages] == []
        assert (await broker.inspect_queue("q")) == ("q", 1, 0)


async def test_an_interrupt_in_a_handler_comes_out_though_all_is_being_cancelled(broker: Broker) -> None:
    """Of the two, the interrupt is the one that must not be lost."""
    await queue(broker, "q")
    await fill(broker, "q", 1)

    async def handle(message: Delivered) -> None:
        outside.cancel()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), trio.CancelScope() as outside:
        await broker.consume("q", handle)
    assert await ready(broker, "q") == 1
