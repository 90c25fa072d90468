"""Owners as links are: they say hello, hear wakes, and consume; and a look at where every message is."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import count
from typing import Any

import attrs
import redis

from kombu_actors.protocols.redis import consuming_calls as calls
from kombu_actors.protocols.redis.calls import Death
from kombu_actors.protocols.redis.consuming_calls import Beaten, Claimed, Got, Left, Settled

from .driver import Driver

LEASE = 1000.0
"""Seconds; what no test outlives."""
PLENTY = 2**20
_ears = count(1)


@attrs.define(eq=False)
class Ear:
    """One connection that hears the wake channels of some owners."""

    client: redis.Redis
    marks: str = attrs.field(init=False)
    pubsub: Any = attrs.field(init=False)
    backlog: list[tuple[str, str]] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.marks = f"marks.{next(_ears)}"
        self.pubsub = self.client.pubsub()  # type: ignore[no-untyped-call]
        self.pubsub.subscribe(self.marks)

    def attend(self, channel: str) -> None:
        self.pubsub.subscribe(channel)
        self.backlog = self.hear()  # the subscription is in force when the mark is heard

    def ignore(self, channel: str) -> None:
        self.pubsub.unsubscribe(channel)
        self.backlog = self.hear()

    def hear(self) -> list[tuple[str, str]]:
        """Channel and text of all that was said since the last time."""
        self.client.publish(self.marks, "mark")
        heard, self.backlog = self.backlog, []
        while True:
            message = self.pubsub.get_message(timeout=10)
            assert message is not None, "Redis said nothing for 10 s"
            if message["type"] == "message":
                if message["channel"] == self.marks.encode():
                    return heard
                heard.append((message["channel"].decode(), message["data"].decode()))


@attrs.define(eq=False)
class Member(Driver):
    """A driver that holds a lease by ``hello`` and hears what its wake channel says."""

    ear: Ear = attrs.field(default=attrs.Factory(lambda self: Ear(self.client), takes_self=True))

    def __attrs_post_init__(self) -> None:
        self.ear.attend(self.wake_channel)

    @property
    def wake_channel(self) -> str:
        return self.key(f"wake.{self.owner}")

    def join(self, lease: float = LEASE, predecessor: str = "", *, client_id: int = 0, run: str = "run") -> Member:
        self.run(calls.hello(client_id or int(self.client.client_id()), run, lease, predecessor))
        return self

    def another(self) -> Member:
        return Member(self.client, self.layout)

    def close(self) -> None:
        self.ear.pubsub.close()

    # calls

    def beat(
        self, visibility_timeout: float = 3600.0, *, lease: float = LEASE, renew: bool = True,
        queues: Iterable[str] = ("q",),
    ) -> Beaten:  # fmt: skip
        return self.run(calls.beat(lease, visibility_timeout, renew=renew, queues=queues))

    def release(self, owner: str) -> int:
        released = self.run(calls.release(owner))
        assert released.done
        return released.returned

    def leave(self, channel: str = "1") -> Left:
        return self.run(calls.leave(channel))

    def consume(self, queue: str, channel: str = "1", tag: str = "tag", *, exclusive: bool = False) -> calls.Subscribed:
        return self.run(calls.consume(channel, tag, queue, sep=self.layout.sep, exclusive=exclusive))

    def cancel(self, queue: str, channel: str = "1", tag: str = "tag") -> None:
        self.run(calls.cancel(channel, tag, queue))

    def claim(
        self, *queues: str, count: int = 1, channel: str = "1", limit: int = PLENTY, no_ack: bool = False,
        share: bool = False,
    ) -> Claimed:  # fmt: skip
        names = [queue.encode() for queue in queues]
        return self.run(calls.claim(channel, names, count, limit=limit, no_ack=no_ack, share=share))

    def get(self, queue: str, channel: str = "1", *, no_ack: bool = False) -> Got:
        return self.run(calls.get(channel, queue, no_ack=no_ack))

    def settle(self, acked: Iterable[int] = (), requeued: Iterable[int] = (), discarded: Iterable[int] = ()) -> Settled:
        return self.run(calls.settle(list(acked), list(requeued), list(discarded)))

    def quarantine(self, claim: int) -> bool:
        return self.run(calls.quarantine(claim))

    # hearing

    def hear(self) -> list[str]:
        """What its wake channel said since the last time; who is woken for a queue, without its name."""
        return [
            text.rpartition(" ")[0] if text[:2] == "w " else text
            for channel, text in self.ear.hear()
            if channel == self.wake_channel
        ]


def stock(number: int | str, *, priority: int = 0, **properties: Any) -> bytes:
    """An envelope as stock kombu publishes it."""
    envelope = {
        "body": str(number),
        "content-encoding": "utf-8",
        "content-type": "text/plain",
        "headers": {},
        "properties": {
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "q"},
            "priority": priority,
            "delivery_tag": f"stock-{number}",
            **properties,
        },
    }
    return json.dumps(envelope).encode()


def ours(number: int | str, returns: int = 0, expires: int = 0) -> bytes:
    """An envelope with our metadata."""
    return stock(number)[:-1] + b',"kombu_actors":[%d,%d]}' % (returns, expires)


def put(client: redis.Redis, queue: str, *envelopes: bytes) -> None:
    for envelope in envelopes:
        client.lpush(queue, envelope)


def numbers(claimed: Claimed) -> list[str]:
    return [body(raw) for _, _, raw in claimed.messages]


def seqs(claimed: Claimed) -> list[int]:
    return [seq for _, seq, _ in claimed.messages]


def body(raw: bytes) -> str:
    text: str = json.loads(raw)["body"]
    return text


def reasons(deaths: list[Death]) -> list[tuple[str, str]]:
    return [(body(death.raw), death.reason) for death in deaths]


def server_ms(client: redis.Redis) -> int:
    seconds, micro = client.time()
    return int(seconds) * 1000 + int(micro) // 1000


def wait_for_server(client: redis.Redis, moment: int) -> None:
    """Until the server's clock, in ms, has passed a moment."""
    while server_ms(client) <= moment:
        pass


def unacked(driver: Driver) -> dict[tuple[str, int], str]:
    """What is claimed, by owner and number, as the three places where it's recorded agree on it."""
    fields = {field.decode(): value for field, value in driver.client.hgetall("unacked").items()}
    index = {field.decode() for field in driver.client.zrange("unacked_index", 0, -1)}
    claims = {
        f"{key.decode().rpartition('.')[2]}:{seq.decode()}"
        for key in driver.client.keys(driver.key("claims.*"))
        for seq in driver.client.hkeys(key)
    }
    own = {field for field in fields if ":" in field}
    assert set(fields) == index, "unacked and its index differ"
    assert own == claims, "unacked and the owners' claims differ"
    return {
        (owner, int(seq)): json.loads(fields[field])[0]["body"]
        for field in own
        for owner, _, seq in [field.partition(":")]
    }
