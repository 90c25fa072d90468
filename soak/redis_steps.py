"""How long each of our scripts keeps the Redis server, over more data than anybody should have.

``python -m soak.redis_steps [--scale 0.1]`` starts a server of its own, fills it past our scripts, and asks the
kernel for the processor time of the server's main thread before and after each script call: on a machine that has other
things to do, the clock tells of those.  The table stands in docs/redis.md.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Final

import redis

from kombu_actors.protocols.redis import consuming_calls as calls
from tests.protocols.redis.member import stock
from tests.support.redis_server import RedisNode

from .redis_meter import BINDINGS, MEGABYTE, MILLION, QUEUES, SAMPLES, SEP, Scene

BOUND_MS: Final = 50.0
"""What no call may exceed."""


def million(scene: Scene) -> None:
    """claim 250, publish 250, requeue, of a queue with 1,000,000 messages; purge; delete"""
    scene.member.queue("q")
    scene.fill("q", scene.many(MILLION), stock(0))
    for _ in range(10):
        taken = [seq for _, seq, _ in scene.member.claim("q", count=250).messages]
        scene.member.settle(acked=taken[:125], requeued=taken[125:])
        scene.repeat(lambda: scene.member.run(calls.unload()).done)
        scene.publish(["q"] * 250, "")
    scene.member.purge("q")
    scene.fill("q", scene.many(MILLION), stock(0))
    scene.member.delete_queue("q")


def expiry(scene: Scene) -> None:
    """expire 1,000,000 messages"""
    scene.member.queue("q")
    scene.fill("q", scene.many(MILLION), stock(0)[:-1] + b',"kombu_actors":[0,1]}')
    scene.client.zadd(scene.member.key("timers"), {"ttl q": 1})
    scene.repeat(lambda: scene.member.beat().next_timer != 0)
    scene.repeat(lambda: bool(scene.claim("q")))


def give_back(scene: Scene) -> None:
    """give back 100,000 claims of a dead process"""
    scene.member.queue("q")
    scene.fill("q", scene.many(100_000), stock(0))
    other = scene.member.another().join()
    while other.claim("q", count=250).messages:
        pass
    scene.repeat(lambda: scene.member.run(calls.release(other.owner)).done)
    other.close()


def give_back_large(scene: Scene) -> None:
    """give back claims of 1 MB; claim, requeue and publish of 1 MB"""
    scene.member.queue("q")
    scene.fill("q", scene.many(100), stock(MEGABYTE, delivery_tag="large"))
    other = scene.member.another().join()
    while other.claim("q", count=250, limit=1).messages:
        pass
    scene.repeat(lambda: scene.member.run(calls.release(other.owner)).done)
    for _ in range(10):
        taken = [seq for _, seq, _ in scene.member.claim("q", count=250, limit=2**20).messages]
        scene.member.settle(requeued=taken)
        scene.repeat(lambda: scene.member.run(calls.unload()).done)
        scene.publish(["q"], "", MEGABYTE.encode())
    other.close()


def routing_direct(scene: Scene) -> None:
    """route by 50,000 direct bindings, 250 keys a batch; stock kombu binds beside it; no such key"""
    count = scene.many(BINDINGS)
    scene.member.exchange("e", "direct")
    scene.bind("e", count)
    for round_ in range(10):
        scene.publish([f"key.{(number * 37 + round_) % count}" for number in range(250)], "e")
        scene.client.sadd("_kombu.binding.e", SEP.join((f"new.{round_}", "", "to new")))
        scene.publish([f"new.{round_}"], "e")
        scene.publish(["nobody's"], "e")
    scene.member.delete_exchange("e")
    scene.repeat(lambda: scene.member.beat().next_timer != 0)


def routing_topic(scene: Scene) -> None:
    """route by 50,000 topic bindings, 250 keys a batch; stock kombu binds beside it"""
    count = scene.many(BINDINGS)
    scene.member.exchange("e", "topic")
    scene.bind("e", count, topic=True)
    for round_ in range(10):
        scene.publish([f"a.{(number * 37 + round_) % count}.z" for number in range(250)], "e")
        scene.client.sadd("_kombu.binding.e", SEP.join((f"b.{round_}.#", "^.$", "to new")))
        scene.publish([f"b.{round_}"], "e")


def routing_headers(scene: Scene) -> None:
    """route by 50,000 headers bindings, 250 messages a batch; bind and unbind beside it; delete the exchange"""
    count = scene.many(BINDINGS)
    scene.member.exchange("e", "headers")
    scene.member.queue("q")
    scene.bind_headers("e", ({"shop": number % 3, "item": number} for number in range(count)))
    for round_ in range(10):
        items = [(number * 37 + round_) % count for number in range(250)]
        scene.publish_with("e", *({"shop": item % 3, "item": item, "page": 1} for item in items))
        binding = scene.member.bind("e", "q", shop=1, round=round_)
        scene.publish_with("e", {"shop": 1, "round": round_})
        scene.member.unbind(binding)
    scene.member.delete_exchange("e")
    scene.repeat(lambda: scene.member.beat().next_timer != 0)


def comparing_headers(scene: Scene) -> None:
    """compare a message with 50,000 headers bindings that all ask for what it has, and for more"""
    scene.member.exchange("e", "headers")
    scene.bind_headers("e", ({"shop": 1, "page": None} for _ in range(scene.many(BINDINGS))))
    scene.publish_with("e", {"shop": 1})
    scene.member.delete_exchange("e")
    scene.repeat(lambda: scene.member.beat().next_timer != 0)


def everybody(scene: Scene) -> None:
    """one message to 50,000 queues, direct, fanout, fanout to the lists, and headers; one of 1 MB to 200 queues"""
    for kind in ("direct", "fanout"):
        scene.member.exchange(kind, kind)
        for number in range(0, scene.many(BINDINGS), 1000):
            members = (SEP.join(("all", "", f"to {number + i}")) for i in range(1000))
            scene.client.sadd(f"_kombu.binding.{kind}", *members)
        scene.publish(["all"], kind)
    scene.member.exchange("lists", "fanout")
    for number in range(0, scene.many(BINDINGS), 1000):
        members = (f'["queue","to {number + i}","","{{}}"]' for i in range(1000))
        scene.client.hset(scene.member.key("bindings.lists"), mapping=dict.fromkeys(members, ""))
    scene.publish(["all"], "lists")
    scene.member.exchange("h", "headers")
    scene.bind_headers("h", ({"a": 1, "b": 2, "x-match": "any"} for _ in range(scene.many(BINDINGS))))
    scene.publish_with("h", {"a": 1, "b": 2})
    scene.member.exchange("f", "direct")
    scene.client.sadd("_kombu.binding.f", *(SEP.join(("all", "", f"large {i}")) for i in range(scene.many(200))))
    scene.publish(["all"], "f", MEGABYTE.encode())


def exchanges(scene: Scene) -> None:
    """a message that comes to 50,000 exchanges bound to one, in a chain, and in a tree; one that comes to none"""
    names = [f"x{number}" for number in range(scene.many(BINDINGS))]
    for kind in ("direct", "fanout", "topic"):
        scene.declare(kind, ["e", *names])
        scene.bind_exchanges(*(("e", name) for name in names))
        scene.publish(["key"], "e")
        scene.publish(["nobody's"], "e")
        scene.client.flushdb()
        scene.member.join()
    scene.declare("direct", names)
    scene.bind_exchanges(*pairwise(names))
    scene.publish(["key"], names[0])
    scene.client.flushdb()
    scene.member.join()
    scene.declare("direct", names)
    scene.bind_exchanges(*((names[(number - 1) // 10], names[number]) for number in range(1, len(names))))
    scene.publish(["key"], names[0])


def lost(scene: Scene) -> None:
    """50,000 bindings that the server has lost: of a headers exchange, of a direct one, to exchanges"""
    count = scene.many(BINDINGS)
    scene.member.exchange("h", "headers")
    scene.bind_headers("h", ({"item": number} for number in range(count)))
    scene.publish_with("h", {"item": 7})
    scene.client.delete(scene.member.key("bindings.h"))
    scene.publish_with("h", {"item": 7})
    scene.member.exchange("d", "direct")
    scene.bind("d", count)
    scene.client.rename("_kombu.binding.d", "_kombu.binding_permanent.d")
    scene.publish(["key.7"], "d")
    scene.member.exchange("e", "fanout")
    scene.bind_exchanges(*(("e", f"x{number}") for number in range(count)))
    scene.client.delete(scene.member.key("bindings.e"))
    scene.publish([""], "e")


def restoring(scene: Scene) -> None:
    """restore what a stock kombu claimed: a message to 50,000 queues, direct and headers; of 1 MB to 200"""
    scene.member.exchange("d", "direct")
    scene.bind("d", scene.many(BINDINGS))
    scene.client.sadd("_kombu.binding.d", *(SEP.join(("all", "", f"large {i}")) for i in range(scene.many(200))))
    scene.member.exchange("e", "direct")
    for number in range(0, scene.many(BINDINGS), 1000):
        scene.client.sadd("_kombu.binding.e", *(SEP.join(("all", "", f"to {number + i}")) for i in range(1000)))
    scene.member.exchange("h", "headers")
    scene.bind_headers("h", ({"x-match": "all"} for _ in range(scene.many(BINDINGS))))
    for number, (exchange, body) in enumerate((("d", MEGABYTE), ("e", ""), ("h", ""))):
        scene.client.hset(
            "unacked", f"tag-{number}", f'[{stock(body, delivery_tag="tag").decode()}, "{exchange}", "all"]'
        )
        scene.client.zadd("unacked_index", {f"tag-{number}": 1})
    for _ in range(10 * SAMPLES):
        if scene.member.beat(queues=["to 1", "large 1"]).next_timer != 0:
            break


def ending(scene: Scene) -> None:
    """delete a queue with 50,000 bindings"""
    count = scene.many(BINDINGS)
    scene.member.exchange("e", "topic")
    scene.member.queue("q")
    scene.bind("e", count, queue="q")
    members = list(scene.client.sscan_iter("_kombu.binding.e", count=1000))
    script = "for i = 2, #ARGV do redis.call('SADD', KEYS[1], cjson.encode{ARGV[1], 't', ARGV[i]}) end"
    for first in range(0, count, 1000):
        scene.client.eval(script, 1, scene.member.key("bound.q:q"), "e", *members[first : first + 1000])
    scene.member.delete_queue("q")
    scene.repeat(lambda: scene.member.beat().next_timer != 0)


def queues(scene: Scene) -> None:
    """1,000 queues of one channel: consume, claim, have no room, leave; of a dead process"""
    names = [f"q{number}" for number in range(scene.many(QUEUES))]
    other = scene.member.another().join()
    for name in names:
        scene.member.queue(name)
    for member, channel in ((scene.member, "1"), (other, "1"), (other, "2")):
        for name in names:
            member.consume(name, channel)
        member.claim(*names, count=1000, channel=channel)
        member.claim(*names, count=0, channel=channel)
        member.claim(*names, count=1000, channel=channel)
    scene.repeat(lambda: scene.member.run(calls.leave("1")).done)
    scene.repeat(lambda: scene.member.run(calls.release(other.owner)).done)
    other.close()


SCENES: Final = (
    *(million, expiry, give_back, give_back_large),
    *(routing_direct, routing_topic, routing_headers, comparing_headers, everybody, exchanges, lost, restoring),
    *(ending, queues),
)


def play(scene: Scene, act: Callable[[Scene], None]) -> list[tuple[str, int, float, float]]:
    """Script, calls, median and longest in ms."""
    scene.member.ran.clear()
    act(scene)
    scene.member.close()
    return [(name, len(ran), statistics.median(ran), max(ran)) for name, ran in sorted(scene.member.ran.items())]


def main() -> int:
    """Print the table; 1 if a call took longer than it may."""
    parser = argparse.ArgumentParser(prog="python -m soak.redis_steps", description=__doc__.partition("\n")[0])
    parser.add_argument("--scale", type=float, default=1.0, help="of the data; 1 unless you say otherwise")
    parser.add_argument("--only", default="", help="name of a scene")
    options = parser.parse_args()
    longest = 0.0
    with tempfile.TemporaryDirectory(prefix="ka-") as directory:
        node = RedisNode(Path(directory))
        node.start()
        try:
            client = redis.Redis(port=node.port, socket_timeout=60)
            print("| data | script | calls | p50 ms | max ms |\n|---|---|--:|--:|--:|")
            for act in SCENES:
                if options.only in act.__name__:
                    for name, count, median, most in play(Scene(node, client, options.scale), act):
                        print(f"| {act.__doc__} | `{name}` | {count} | {median:.2f} | {most:.1f} |", flush=True)
                        longest = max(longest, most)
            client.close()
        finally:
            node.stop()
    print(f"scripts over large data: the longest kept the server for {longest:.0f} ms")
    return int(longest > BOUND_MS)


if __name__ == "__main__":
    sys.exit(main())
