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
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import redis

from kombu_actors.protocols.redis import consuming_calls as calls
from kombu_actors.protocols.redis.scripts import ALL_SCRIPTS
from tests.protocols.redis.driver import headers_member
from tests.protocols.redis.member import Member, stock
from tests.support.redis_server import RedisNode

SEP: Final = "\x06\x16"
MILLION: Final = 1_000_000
BINDINGS: Final = 50_000
QUEUES: Final = 1_000
MEGABYTE: Final = "x" * 1_000_000
SAMPLES: Final = 200
"""Calls that are looked at of what takes thousands."""
BOUND_MS: Final = 50.0
"""What no call may exceed."""
NAMES: Final = {script.sha1.encode(): name for name, script in ALL_SCRIPTS.items()}


@attrs.define(eq=False)
class Meter(Member):
    """A member that knows how long each of its calls kept the server."""

    schedstat: Path = Path()
    ran: dict[str, list[float]] = attrs.field(factory=dict)

    def another(self) -> Meter:
        return Meter(self.client, self.layout, schedstat=self.schedstat, ran=self.ran)

    def _served(self) -> float:
        """Milliseconds."""
        return int(self.schedstat.read_text().split()[0]) / 1e6

    def send(self, command: tuple[bytes, ...]) -> Any:
        before = self._served()
        reply = super().send(command)
        self.ran.setdefault(NAMES[command[1]], []).append(self._served() - before)
        return reply


@attrs.define(eq=False)
class Scene:
    """One member of an empty server."""

    node: RedisNode
    client: Any
    scale: float
    member: Meter = attrs.field(init=False)

    @member.default
    def _join(self) -> Meter:
        self.client.flushall()
        for script in ALL_SCRIPTS.values():
            self.client.script_load(script.text)
        task = Path(f"/proc/{self.node.pid}/task/{self.node.pid}/schedstat")
        meter = Meter(self.client, schedstat=task)
        meter.join()
        return meter

    def many(self, count: int) -> int:
        return max(10, int(count * self.scale))

    def fill(self, queue: str, count: int, envelope: bytes) -> None:
        """Copies of one message, made in the server."""
        script = "for _ = 1, ARGV[1] do redis.call('LPUSH', KEYS[1], ARGV[2]) end"
        for _ in range(count // 5000 or 1):
            self.client.eval(script, 1, queue, min(count, 5000), envelope)

    def bind(self, exchange: str, count: int, *, topic: bool = False, queue: str | None = None) -> None:
        """As stock kombu does."""
        for first in range(0, count, 1000):
            members = [
                SEP.join(
                    (
                        f"a.{number}.*" if topic else f"key.{number}",
                        "^.$" if topic else "",
                        queue or f"to {number}",
                    )
                )
                for number in range(first, min(first + 1000, count))
            ]
            self.client.sadd(f"_kombu.binding.{exchange}", *members)

    def bind_headers(self, exchange: str, bindings: Iterable[Mapping[str, object]]) -> None:
        """A queue by each, past the scripts."""
        members = [headers_member(f"to {number}", arguments) for number, arguments in enumerate(bindings)]
        for first in range(0, len(members), 1000):
            page = members[first : first + 1000]
            self.client.hset(self.member.key(f"bindings.{exchange}"), mapping=dict.fromkeys(page, ""))
            self.client.sadd(self.member.key(f"bindings_permanent.{exchange}"), *page)

    def publish_with(self, exchange: str, *headers: Mapping[str, object]) -> None:
        """One batch, a message with each."""
        self.member.publish_in_steps(*(self.member.message("", b"", exchange, headers=each) for each in headers))

    def publish(self, keys: list[str], exchange: str, body: bytes = b"") -> None:
        """One batch, however many calls it takes."""
        self.member.publish_in_steps(*(self.member.message(key, body, exchange) for key in keys))

    def repeat(self, step: Callable[[], bool]) -> None:
        for _ in range(SAMPLES):
            if step():
                return

    def claim(self, *queues: str, count: int = 250, channel: str = "1") -> int:
        return len(self.member.claim(*queues, count=count, channel=channel).messages)


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
    scene.fill("q", scene.many(100), stock(MEGABYTE))
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
    *(routing_direct, routing_topic, routing_headers, comparing_headers, everybody, ending, queues),
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
