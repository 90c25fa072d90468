"""Scripts that any AMQP broker can play; the memory broker must answer like RabbitMQ to each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .rivals import Player, Script

SCRIPTS: dict[str, tuple[Script, int]] = {}
"""By name, with the number of connections it takes."""

TTL = {"x-message-ttl": 0}


def script(players: int = 1) -> Callable[[Script], Script]:
    def enter(play: Script) -> Script:
        SCRIPTS[play.__name__] = (play, players)
        return play

    return enter


@script()
async def polling(a: Player) -> None:
    await a.queue("q")
    await a.publish(b"1", "q")
    await a.publish(b"2", "q", delivery_mode=2, priority=3, message_id="m", headers={"a": [1, "x", None]})
    await a.get("q")
    await a.depth("q")
    await a.reject(1, requeue=True)
    await a.get("q", no_ack=True)
    await a.get("q")
    await a.get("q")
    await a.nack(9)
    await a.get("q")
    await a.delete_queue("q")


@script()
async def acknowledging(a: Player) -> None:
    await a.queue("q")
    for number in range(6):
        await a.publish(b"%d" % number, "q")
    await a.consume("q", "t")
    await a.heard(6)
    await a.ack(2)
    await a.ack(4, multiple=True)
    await a.nack(6, multiple=True)
    await a.heard(2)
    await a.ack(0, multiple=True)
    await a.depth("q")
    await a.publish(b"last", "q")
    await a.heard(1)
    await a.nack(9, requeue=False)
    await a.ack(9)
    await a.ack(1)
    await a.ack(0)
    await a.ack(7, multiple=True)
    await a.depth("q")


@script()
async def multiple_needs_a_tag_that_is_outstanding(a: Player) -> None:
    await a.queue("q")
    for number in range(3):
        await a.publish(b"%d" % number, "q")
    await a.consume("q", "t")
    await a.heard(3)
    await a.ack(2)
    await a.ack(2, multiple=True)
    await a.depth("q")
    await a.get("q")
    await a.get("q")


@script()
async def requeueing_keeps_the_order(a: Player) -> None:
    await a.queue("q")
    for number in range(6):
        await a.publish(b"%d" % number, "q")
    for _ in range(4):
        await a.get("q")
    await a.reject(3, requeue=True)
    await a.reject(1, requeue=True)
    await a.publish(b"6", "q")
    for _ in range(3):
        await a.get("q")
    await a.recover()
    for _ in range(8):
        await a.get("q", no_ack=True)


@script()
async def closing_a_channel_requeues(a: Player) -> None:
    await a.queue("q")
    for number in range(3):
        await a.publish(b"%d" % number, "q")
    await a.consume("q", "t")
    await a.heard(3)
    await a.ack(2)
    await a.close_channel()
    await a.depth("q")
    await a.get("q")
    await a.get("q")


@script(players=2)
async def consumers_take_turns(a: Player, b: Player) -> None:
    await a.queue("q")
    await a.qos(2)
    await a.consume("q", "a1")
    await b.qos(1)
    await b.consume("q", "b1")
    for number in range(6):
        await a.publish(b"%d" % number, "q")
    await a.depth("q")
    await b.depth("q")
    await b.ack(1)
    await b.heard(1)
    await a.ack(1)
    await a.heard(1)
    await b.ack(2)
    await b.heard(1)
    await b.cancel("b1")
    await b.ack(3)
    await a.ack(3, multiple=True)
    await a.depth("q")


@script()
async def prefetch_is_for_later_consumers(a: Player) -> None:
    await a.queue("q")
    await a.consume("q", "free")
    await a.qos(1)
    for number in range(4):
        await a.publish(b"%d" % number, "q")
    await a.depth("q")
    await a.cancel("free")
    await a.consume("q", "bound")
    await a.recover()
    await a.depth("q")


@script()
async def global_prefetch_is_for_the_channel(a: Player) -> None:
    await a.queue("q")
    await a.queue("r")
    await a.qos(2, apply_global=True)
    await a.consume("q", "q1")
    await a.consume("r", "r1")
    await a.publish(b"1", "q")
    await a.depth("q")
    await a.publish(b"2", "r")
    await a.publish(b"3", "q")
    await a.depth("q", "r")
    await a.ack(1)
    await a.heard(1)
    await a.publish(b"4", "r")
    await a.depth("q", "r")
    await a.qos(0, apply_global=True)
    await a.heard(1)
    await a.depth("q", "r")


@script()
async def no_ack_knows_no_prefetch(a: Player) -> None:
    await a.queue("q")
    await a.qos(1)
    for number in range(3):
        await a.publish(b"%d" % number, "q")
    await a.consume("q", "t", no_ack=True)
    await a.heard(3)
    await a.depth("q")
    await a.ack(1)


@script(players=2)
async def consumers_with_priority_come_first(a: Player, b: Player) -> None:
    await a.queue("q")
    await a.qos(1)
    await a.consume("q", "low")
    await b.qos(2)
    await b.consume("q", "high", {"x-priority": 5})
    for number in range(5):
        await a.publish(b"%d" % number, "q")
    await b.depth("q")
    await a.depth("q")
    await b.ack(2, multiple=True)
    await b.heard(2)
    await a.consume("q", "bad", {"x-priority": "5"})
    await a.consume("q", "bad", {"x-priority": 1.5})


@script(players=2)
async def one_active_consumer(a: Player, b: Player) -> None:
    # Without prefetch: RabbitMQ 3.10's queue crashes when an active consumer at its limit is cancelled.
    await a.queue("q", {"x-single-active-consumer": True})
    await a.consume("q", "a1")
    await b.consume("q", "b1")
    await b.consume("q", "b2", {"x-priority": 3})
    await a.publish(b"1", "q")
    await b.depth("q")
    await a.depth("q")
    await a.cancel("a1")
    await a.publish(b"2", "q")
    await b.heard(1)
    await a.nack(1)
    await b.heard(1)
    await a.consume("q", "a2", exclusive=True)
    await a.consume("q", "a2")
    await b.close_channel()
    await a.heard(2)


@script(players=2)
async def exclusive_consumers(a: Player, b: Player) -> None:
    await a.queue("q")
    await a.consume("q", "only", exclusive=True)
    await b.consume("q", "too")
    await b.get("q")
    await b.consume("q", "too", exclusive=True)
    await a.cancel("only")
    await b.consume("q", "too")
    await a.consume("q", "only", exclusive=True)


@script(players=2)
async def exclusive_queues(a: Player, b: Player) -> None:
    await a.queue("q", exclusive=True)
    await a.queue("q", exclusive=True)
    await a.queue("q")
    await b.queue("q", exclusive=True)
    await b.queue("q")
    await b.queue("q", passive=True)
    await b.consume("q", "t")
    await b.get("q")
    await b.bind("amq.direct", "q", "k")
    await b.unbind("amq.direct", "q", "k")
    await a.bind("amq.direct", "q", "k")
    await b.unbind("amq.direct", "q", "k")
    await b.purge("q")
    await b.delete_queue("q")
    await b.publish(b"anyone may", "q")
    await a.get("q")
    await b.queue("shared")
    await b.queue("shared", exclusive=True)


@script()
async def automatic_deletion_of_queues(a: Player) -> None:
    await a.queue("q", auto_delete=True)
    await a.consume("q", "one")
    await a.consume("q", "two")
    await a.cancel("one")
    await a.queue("q", passive=True)
    await a.cancel("two")
    await a.queue("q", passive=True)
    await a.queue("r", auto_delete=True)
    await a.consume("r", "three")
    await a.close_channel()
    await a.queue("r", passive=True)


@script()
async def automatic_deletion_of_exchanges(a: Player) -> None:
    await a.queue("q")
    await a.exchange("x", auto_delete=True)
    await a.exchange("y", auto_delete=True)
    await a.bind_exchange("x", "y", "k")
    await a.bind("y", "q", "k")
    await a.bind("y", "q", "l")
    await a.unbind("y", "q", "k")
    await a.exchange("y", passive=True)
    await a.delete_queue("q")
    await a.exchange("y", passive=True)
    await a.exchange("x", passive=True)


@script()
async def deleting_a_queue_cancels_its_consumers(a: Player) -> None:
    await a.queue("q")
    await a.publish(b"1", "q")
    await a.consume("q", "t")
    await a.heard(1)
    await a.publish(b"2", "q")
    await a.heard(1)
    await a.delete_queue("q")
    await a.heard(1)
    await a.ack(1)
    await a.cancel("t")
    await a.publish(b"3", "q")
    await a.nack(2)
    await a.queue("q")


@script()
async def conditional_deletion(a: Player) -> None:
    await a.queue("q")
    await a.exchange("x")
    await a.bind("x", "q", "k")
    await a.publish(b"1", "q")
    await a.delete_queue("q", if_empty=True)
    await a.delete_exchange("x", if_unused=True)
    await a.purge("q")
    await a.consume("q", "t")
    await a.delete_queue("q", if_unused=True)
    await a.delete_queue("q", if_empty=True)
    await a.consume("q", "t")
    await a.delete_queue("q", if_unused=True)
    await a.delete_queue("q")
    await a.heard(0)
    await a.delete_exchange("x", if_unused=True)
    await a.delete_exchange("x")
    await a.delete_queue("q")


@script()
async def direct_routing(a: Player) -> None:
    await a.queue("q")
    await a.queue("r")
    await a.bind("amq.direct", "q", "k")
    await a.bind("amq.direct", "q", "k", x=1)
    await a.bind("amq.direct", "r", "k")
    await a.bind("amq.direct", "r", "")
    await a.publish(b"1", "k", "amq.direct")
    await a.publish(b"2", "", "amq.direct")
    await a.publish(b"3", "K", "amq.direct")
    await a.depth("q", "r")
    await a.unbind("amq.direct", "q", "k")
    await a.publish(b"4", "k", "amq.direct")
    await a.unbind("amq.direct", "q", "k", x=1)
    await a.publish(b"5", "k", "amq.direct")
    await a.depth("q", "r")


@script()
async def topic_routing(a: Player) -> None:
    patterns = ["#", "", "*", "*.*", "a.#", "#.b", "a.*.b", "#.#", "#.*", "*.#.b", "a..b", "a.#.b.#"]
    for number, pattern in enumerate(patterns):
        await a.queue(f"t{number}")
        await a.bind("amq.topic", f"t{number}", pattern)
    queues = [f"t{number}" for number in range(len(patterns))]
    for key in ["", "a", "b", "a.b", "a.b.b", "a..b", "a.", ".", ".b", "a.x.y.b", "#", "*", "*.b"]:
        await a.publish(b"m", key, "amq.topic")
        await a.depth(*queues)


@script()
async def fanout_routing(a: Player) -> None:
    await a.queue("q")
    await a.queue("r")
    await a.bind("amq.fanout", "q", "any")
    await a.bind("amq.fanout", "q", "other")
    await a.bind("amq.fanout", "r")
    await a.publish(b"1", "whatever", "amq.fanout")
    await a.depth("q", "r")
    await a.unbind("amq.fanout", "q", "any")
    await a.publish(b"2", "", "amq.fanout")
    await a.depth("q", "r")


@script()
async def headers_routing(a: Player) -> None:
    bindings: list[dict[str, Any]] = [
        {},
        {"x_match": "any"},
        {"x_match": "all", "a": 1},
        {"x_match": "any", "a": 1, "b": "2"},
        {"a": None},
        {"a": True},
        {"a": 1.0},
        {"a": "1"},
        {"x_match": "all", "x_a": 1, "a": 1},
        {"x_match": "all-with-x", "x_a": 1, "a": 1},
        {"x_match": "any-with-x", "x_a": 1},
        {"x_match": "any", "x_a": 1},
        {"a": [1, 2]},
    ]
    for number, arguments in enumerate(bindings):
        await a.queue(f"h{number}")
        await a.bind("amq.headers", f"h{number}", "", **arguments)
    queues = [f"h{number}" for number in range(len(bindings))]
    for headers in [{}, {"a": 1}, {"a": True}, {"a": 1.0}, {"a": "1"}, {"b": "2"}, {"x-a": 1}, {"a": 1, "x-a": 1},
                    {"a": None}, {"a": [1, 2]}, {"x-match": "any"}]:  # fmt: skip
        await a.publish(b"m", "", "amq.headers", headers=headers)
        await a.depth(*queues)
    await a.bind("amq.headers", "h0", "", x_match="some")
    await a.bind("amq.headers", "h0", "", x_match=4)


@script()
async def exchanges_bound_to_exchanges(a: Player) -> None:
    for name in ("x", "y", "z"):
        await a.exchange(name, "fanout")
    await a.bind_exchange("x", "y")
    await a.bind_exchange("y", "z")
    await a.bind_exchange("z", "x")
    await a.queue("q")
    await a.bind("z", "q")
    await a.bind("y", "q")
    await a.publish(b"round", "k", "x")
    await a.get("q", no_ack=True)
    await a.get("q", no_ack=True)
    await a.unbind_exchange("y", "z")
    await a.publish(b"once", "k", "x")
    await a.depth("q")
    await a.bind_exchange("nope", "x")
    await a.bind_exchange("x", "nope")
    await a.bind_exchange("", "x")
    await a.bind_exchange("x", "")
    await a.unbind_exchange("x", "nope")
    await a.delete_exchange("y")
    await a.publish(b"nowhere", "k", "x")
    await a.depth("q")


@script()
async def alternate_exchanges(a: Player) -> None:
    await a.exchange("alt", "fanout")
    await a.exchange("x", "direct", arguments={"alternate-exchange": "alt"})
    await a.exchange("inner", "direct", arguments={"alternate-exchange": "missing"})
    await a.queue("q")
    await a.queue("other")
    await a.bind("alt", "other")
    await a.bind("x", "q", "k")
    await a.confirms()
    await a.publish(b"1", "k", "x", mandatory=True)
    await a.publish(b"2", "l", "x", mandatory=True)
    await a.publish(b"3", "l", "inner", mandatory=True)
    await a.heard(4)
    await a.depth("q", "other")
    await a.get("other")


@script()
async def internal_exchanges(a: Player) -> None:
    await a.exchange("in", "fanout", internal=True)
    await a.exchange("out", "fanout")
    await a.bind_exchange("out", "in")
    await a.queue("q")
    await a.bind("in", "q")
    await a.publish(b"1", "k", "out")
    await a.publish(b"2", "k", "in")
    await a.depth("q")


@script()
async def confirming(a: Player) -> None:
    await a.queue("q")
    await a.queue("full", {"x-max-length": 1, "x-overflow": "reject-publish"})
    await a.confirms()
    await a.publish(b"1", "q")
    await a.publish(b"2", "nowhere")
    await a.publish(b"3", "nowhere", mandatory=True, headers={"a": 1})
    await a.publish(b"4", "full")
    await a.publish(b"5", "full")
    await a.publish(b"6", "full", mandatory=True)
    await a.heard(7)
    await a.confirms()
    await a.publish(b"7", "q")
    await a.heard(1)
    await a.publish(b"8", "k", "nope")
    await a.depth("q", "full")


@script()
async def refused_publishes(a: Player) -> None:
    await a.queue("q")
    await a.publish(b"1", "q", "nope")
    await a.publish(b"1", "q", user_id="joe")
    await a.publish(b"1", "q", user_id="guest")
    await a.depth("q")


@script()
async def sender_selected_distribution(a: Player) -> None:
    for name in ("q", "r", "s"):
        await a.queue(name)
    await a.publish(b"1", "q", headers={"CC": ["r", "q"], "BCC": ["s"], "other": 1})
    for name in ("q", "r", "s"):
        await a.get(name)
        await a.get(name)


@script()
async def limits_by_length(a: Player) -> None:
    await a.queue("dead")
    await a.queue("q", {"x-max-length": 2, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
    for number in range(4):
        await a.publish(b"%d" % number, "q", headers={"n": number})
    await a.depth("q")
    for _ in range(3):
        await a.get("q")
    await a.publish(b"4", "q")
    await a.publish(b"5", "q")
    await a.recover()
    await a.depth("q")
    for _ in range(3):
        await a.get("q", no_ack=True)
    await a.queue("zero", {"x-max-length": 0})
    await a.publish(b"gone", "zero")
    await a.depth("zero")
    await a.consume("zero", "t")
    await a.publish(b"straight", "zero")
    await a.heard(1)


@script()
async def limits_by_bytes(a: Player) -> None:
    await a.queue("q", {"x-max-length-bytes": 10})
    for body in (b"123", b"12345", b"1234", b"12345678901", b"1"):
        await a.publish(body, "q")
        await a.depth("q")
    await a.queue("r", {"x-max-length-bytes": 4, "x-overflow": "reject-publish"})
    await a.confirms()
    await a.publish(b"12345", "r")
    await a.publish(b"123", "r")
    await a.publish(b"12", "r")
    await a.heard(3)
    await a.depth("r")


@script()
async def refusing_with_dead_letters(a: Player) -> None:
    await a.queue("dead")
    arguments = {"x-max-length": 1, "x-overflow": "reject-publish-dlx", "x-dead-letter-exchange": ""}
    await a.queue("q", {**arguments, "x-dead-letter-routing-key": "dead"})
    await a.confirms()
    await a.publish(b"1", "q")
    await a.publish(b"2", "q")
    await a.heard(2)
    await a.consume("dead", "t", no_ack=True)
    await a.heard(1)


@script()
async def priorities(a: Player) -> None:
    await a.queue("q", {"x-max-priority": 5})
    for number, priority in enumerate([0, 5, 3, 9, None, 3]):
        await a.publish(b"%d" % number, "q", priority=priority)
    for _ in range(3):
        await a.get("q")
    await a.nack(2, multiple=True)
    for _ in range(6):
        await a.get("q", no_ack=True)
    await a.queue("short", {"x-max-priority": 5, "x-max-length": 2})
    for number, priority in enumerate([1, 2, 0]):
        await a.publish(b"%d" % number, "short", priority=priority)
    for _ in range(2):
        await a.get("short")


@script()
async def expiring_at_once(a: Player) -> None:
    await a.queue("dead")
    await a.queue("q", {"x-dead-letter-exchange": "amq.fanout"})
    await a.bind("amq.fanout", "dead")
    await a.publish(b"1", "q", expiration="0", headers={"h": 1})
    await a.consume("dead", "d", no_ack=True)
    await a.heard(1)
    await a.consume("q", "t")
    await a.publish(b"2", "q", expiration="0")
    await a.heard(1)
    await a.nack(2)
    await a.heard(1)
    await a.queue("none", TTL)
    await a.publish(b"3", "none", expiration="100000")
    await a.depth("none")


@script()
async def expiring_at_the_head_only(a: Player) -> None:
    await a.queue("dead")
    await a.queue("q", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
    await a.publish(b"long", "q", expiration="60000")
    await a.publish(b"short", "q", expiration="1")
    await a.publish(b"forever", "q")
    await a.consume("dead", "d", no_ack=True)
    await a.pause(0.01)
    await a.depth("q")
    await a.get("q")
    await a.heard(1)
    await a.depth("q")


@script()
async def dead_letters(a: Player) -> None:
    await a.queue("dead")
    await a.queue("q", {"x-dead-letter-exchange": "amq.fanout"})
    await a.bind("amq.fanout", "dead")
    await a.consume("dead", "d", no_ack=True)
    await a.publish(b"1", "q", headers={"CC": ["q"], "x": 1}, delivery_mode=2)
    await a.get("q")
    await a.get("q")
    await a.nack(2, multiple=True, requeue=False)
    await a.heard(2)
    await a.publish(b"2", "q", headers={"x-death": "forged"})
    await a.get("q")
    await a.reject(5)
    await a.heard(1)
    await a.queue("lost", {"x-dead-letter-exchange": "missing"})
    await a.publish(b"3", "lost")
    await a.get("lost")
    await a.reject(7)
    await a.depth("lost")


@script()
async def dead_letters_going_round(a: Player) -> None:
    back = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q"}
    await a.queue("wait", {**back, "x-message-ttl": 1})
    await a.queue("q", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "wait"})
    await a.consume("q", "t")
    await a.publish(b"1", "q")
    for tag in range(1, 4):
        await a.heard(1)
        await a.reject(tag)
    await a.heard(1)


@script()
async def dead_letters_that_nobody_takes_part_in(a: Player) -> None:
    await a.queue("x", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "y", **TTL})
    await a.queue("y", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "x", **TTL})
    await a.publish(b"1", "x")
    await a.queue("self", {"x-dead-letter-exchange": "", "x-max-length": 0})
    await a.publish(b"2", "self")
    await a.depth("x", "y", "self")


@script()
async def dead_letters_with_copies(a: Player) -> None:
    await a.queue("dead")
    await a.queue("q", {"x-dead-letter-exchange": "amq.fanout", "x-dead-letter-routing-key": "new"})
    await a.bind("amq.fanout", "dead")
    await a.consume("dead", "d", no_ack=True)
    await a.publish(b"1", "q", headers={"CC": ["other"], "BCC": ["hidden"]})
    await a.get("q")
    await a.reject(2)
    await a.heard(1)


@script()
async def declaring_again(a: Player) -> None:
    await a.exchange("x")
    await a.exchange("x")
    await a.exchange("x", "fanout")
    await a.exchange("x", durable=True)
    await a.exchange("x", auto_delete=True)
    await a.exchange("x", internal=True)
    await a.exchange("x", arguments={"alternate-exchange": "a"})
    await a.exchange("x", arguments={"unknown": "a"})
    await a.exchange("y", arguments={"alternate-exchange": "a"})
    await a.exchange("y", arguments={"alternate-exchange": "b"})
    await a.exchange("y")
    await a.exchange("z", arguments={"alternate-exchange": 5})
    await a.exchange("x", "fanout", passive=True)
    await a.exchange("nope", passive=True)
    await a.exchange("x", "bogus")
    arguments = {"x-message-ttl": 1000, "x-unknown": 1}
    await a.queue("q", arguments)
    await a.queue("q", {**arguments, "x-unknown": 2})
    await a.queue("q", {**arguments, "x-message-ttl": 2000})
    await a.queue("q", {**arguments, "x-max-length": 2})
    await a.queue("q", {"x-unknown": 1})
    await a.queue("q", passive=True)
    await a.queue("q", arguments, durable=True)
    await a.queue("q", arguments, auto_delete=True)
    await a.queue("q", {**arguments, "x-dead-letter-exchange": ""})
    await a.queue("r", {"x-dead-letter-exchange": "a"})
    await a.queue("r", {"x-dead-letter-exchange": "b"})
    await a.queue("r", {"x-dead-letter-exchange": 4})
    await a.queue("s", {"x-single-active-consumer": True})
    await a.queue("s", {"x-single-active-consumer": False})
    await a.queue("s")


@script()
async def arguments_of_queues(a: Player) -> None:
    values: dict[str, list[Any]] = {
        "x-message-ttl": [-1, "z", 1.5, True, 2**40, None, 0, 315360000000, 315360000001],
        "x-expires": [0, -1, "z", 2**40],
        "x-max-length": [-1, "z"],
        "x-max-length-bytes": [-5, "z"],
        "x-max-priority": [256, -1, "3", 0],
        "x-overflow": ["bogus", 4],
        "x-dead-letter-exchange": [4],
        "x-dead-letter-routing-key": ["k", 4],
        "x-queue-mode": ["bogus", "lazy", 4],
        "x-queue-type": ["bogus", "classic", 4],
        "x-single-active-consumer": ["yes", 1],
        "x-delivery-limit": [3],
    }
    for name, choices in values.items():
        for choice in choices:
            await a.queue("q", {name: choice})
            await a.delete_queue("q")
    await a.queue("q", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": 4})


@script()
async def reserved_names(a: Player) -> None:
    await a.exchange("amq.mine")
    await a.exchange("amq.mine", passive=True)
    await a.exchange("amq.direct", durable=True)
    await a.exchange("amq.direct", "fanout", durable=True)
    await a.exchange("")
    await a.exchange("", passive=True)
    await a.delete_exchange("")
    await a.delete_exchange("amq.direct")
    await a.delete_exchange("nope")
    await a.queue("amq.mine")
    await a.queue("amq.mine", passive=True)
    await a.queue("", passive=True)
    await a.bind("amq.direct", "", "k")
    await a.consume("", "t")
    await a.queue("", exclusive=True)
    await a.bind("amq.direct", "", "k")
    await a.publish(b"1", "k", "amq.direct")
    await a.get("")
    await a.purge("")
    await a.delete_queue("")


@script()
async def binding_errors(a: Player) -> None:
    await a.queue("q")
    await a.bind("amq.direct", "nope", "k")
    await a.bind("nope", "q", "k")
    await a.bind("nope", "nope", "k")
    await a.bind("", "q", "k")
    await a.unbind("", "q", "k")
    await a.unbind("amq.direct", "q", "k")
    await a.unbind("amq.direct", "nope", "k")
    await a.unbind("nope", "q", "k")
    await a.get("nope")
    await a.consume("nope", "t")
    await a.purge("nope")
    await a.delete_queue("nope")
    await a.cancel("nope")


@script(players=2)
async def a_refusal_costs_one_channel(a: Player, b: Player) -> None:
    await a.queue("q")
    await a.publish(b"1", "q")
    await a.consume("q", "t")
    await a.heard(1)
    await a.queue("nope", passive=True)
    await a.depth("q")
    await b.get("q")


@script(players=2)
async def competing_for_what_comes_back(a: Player, b: Player) -> None:
    await a.queue("q")
    await a.consume("q", "a1")
    await a.publish(b"1", "q")
    await a.heard(1)
    await b.consume("q", "b1")
    await a.publish(b"2", "q")
    await a.heard(1)
    await a.publish(b"3", "q")
    await b.heard(1)
    await a.cancel("a1")
    await a.nack(1)
    await b.heard(1)
    await b.cancel("b1")
    await b.nack(2, multiple=True)
    await b.depth("q")
    await a.get("q")
    await a.get("q")


@script()
async def quorum_queues(a: Player) -> None:
    quorum = {"x-queue-type": "quorum"}
    await a.queue("q", quorum)
    await a.queue("q", quorum, durable=True, exclusive=True)
    await a.queue("q", quorum, durable=True, auto_delete=True)
    await a.queue("q", {**quorum, "x-max-priority": 3}, durable=True)
