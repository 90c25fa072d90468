"""A Redis server whose processor time each script call is measured by, and that is filled past the scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from kombu_actors.protocols.redis.scripts import ALL_SCRIPTS
from tests.protocols.redis.driver import headers_member
from tests.protocols.redis.member import Member
from tests.support.redis_server import RedisNode

SEP: Final = "\x06\x16"
MILLION: Final = 1_000_000
BINDINGS: Final = 50_000
QUEUES: Final = 1_000
MEGABYTE: Final = "x" * 1_000_000
SAMPLES: Final = 200
"""Calls that are looked at of what takes thousands."""
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

    def bind_exchanges(self, *bindings: tuple[str, str]) -> None:
        """Source and destination of each, past the scripts."""
        with self.client.pipeline(transaction=False) as pipe:
            for source, destination in bindings:
                member = f'["exchange","{destination}","key","{{}}"]'
                pipe.hset(self.member.key(f"bindings.{source}"), member, "")
                pipe.sadd(self.member.key(f"bindings_permanent.{source}"), member)
            pipe.execute()

    def declare(self, kind: str, names: list[str]) -> None:
        """Exchanges, past the scripts; bound to each a queue of its own."""
        with self.client.pipeline(transaction=False) as pipe:
            pipe.hset(self.member.key("exchanges"), mapping=dict.fromkeys(names, f'{{"type":"{kind}"}}'))
            for name in names:
                pipe.sadd(f"_kombu.binding.{name}", SEP.join(("key", "", f"to {name}")))
            pipe.execute()

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
