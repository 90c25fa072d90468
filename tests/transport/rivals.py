"""One script, played on two brokers: what each answered, said and delivered, for comparison."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio
from amqp.exceptions import AMQPError

from kombu_actors._values.endpoint import LinkOptions, parse_url
from kombu_actors._values.model import (
    BindingKind,
    BindingSpec,
    ConsumerSpec,
    Delivery,
    ExchangeSpec,
    QueueInfo,
    QueueSpec,
)
from kombu_actors.errors import ConnectionLost
from kombu_actors.transport import transport_for
from kombu_actors.transport._contract import Link, LinkChannel

PATIENCE = 5.0
"""Seconds for anything a broker on this machine has to answer."""


@attrs.define(eq=False)
class Player:
    """A connection and what was heard on it.  Every method writes what it saw to ``seen``."""

    transport: Any
    link: Link
    channel: LinkChannel
    seen: list[Any]
    name: str
    news: list[Any] = attrs.field(factory=list)
    """Deliveries, confirms, returns and cancels in the order heard."""
    stirred: trio.Event = attrs.field(factory=trio.Event)
    confirmed: int = 0

    # the script's words

    async def exchange(self, name: str, kind: str = "direct", **options: Any) -> None:
        passive = options.pop("passive", False)
        spec = ExchangeSpec(name=name, type=kind, **{"durable": False, **options})
        await self._ask("exchange", self.channel.exchange_declare(spec, passive=passive))

    async def delete_exchange(self, name: str, **options: Any) -> None:
        await self._ask("delete_exchange", self.channel.exchange_delete(name, **options))

    async def queue(self, name: str, arguments: dict[str, Any] | None = None, **options: Any) -> None:
        passive = options.pop("passive", False)
        spec = QueueSpec(name=name, arguments=arguments, **{"durable": False, **options})
        await self._ask("queue", self.channel.queue_declare(spec, passive=passive))

    async def meet(self, queue: str) -> None:
        """Let everything that passed between us and a queue arrive."""
        await self.channel.queue_declare(QueueSpec(name=queue), passive=True)

    async def delete_queue(self, name: str, **options: Any) -> None:
        await self._ask("delete_queue", self.channel.queue_delete(name, **options))

    async def purge(self, name: str) -> None:
        await self._ask("purge", self.channel.queue_purge(name))

    async def bind(self, source: str, destination: str, key: str = "", **arguments: Any) -> None:
        await self._ask(
            "bind", self.channel.queue_bind(_binding(BindingKind.QUEUE, source, destination, key, arguments))
        )

    async def unbind(self, source: str, destination: str, key: str = "", **arguments: Any) -> None:
        binding = _binding(BindingKind.QUEUE, source, destination, key, arguments)
        await self._ask("unbind", self.channel.queue_unbind(binding))

    async def bind_exchange(self, source: str, destination: str, key: str = "", **arguments: Any) -> None:
        binding = _binding(BindingKind.EXCHANGE, source, destination, key, arguments)
        await self._ask("bind_exchange", self.channel.exchange_bind(binding))

    async def unbind_exchange(self, source: str, destination: str, key: str = "") -> None:
        binding = _binding(BindingKind.EXCHANGE, source, destination, key, {})
        await self._ask("unbind_exchange", self.channel.exchange_unbind(binding))

    async def qos(self, count: int, apply_global: bool = False) -> None:
        await self._ask("qos", self.channel.qos(prefetch_count=count, apply_global=apply_global))

    async def consume(self, queue: str, tag: str, arguments: dict[str, Any] | None = None, **options: Any) -> None:
        spec = ConsumerSpec(tag=tag, queue=queue, arguments=arguments or {}, **options)

        def sink(batch: list[Delivery]) -> None:
            for delivery in batch:
                self._tells("deliver", tag, *_shown(delivery))

        await self._ask("consume", self.channel.consume(spec, sink, lambda: self._tells("cancelled", tag)))

    async def cancel(self, tag: str) -> None:
        await self._ask("cancel", self.channel.cancel(tag))

    async def get(self, queue: str, **options: Any) -> None:
        await self._ask("get", self.channel.get(queue, **options))

    async def recover(self) -> None:
        await self._ask("recover", self.channel.recover(requeue=True))

    async def confirms(self) -> None:
        def confirmed(tag: int, multiple: bool, accepted: bool) -> None:
            for each in range(self.confirmed + 1 if multiple else tag, tag + 1):
                self._tells("confirm", each, accepted)
            self.confirmed = tag

        def returned(message: Any) -> None:
            self._tells("return", message.code, message.text, message.exchange, message.routing_key, message.body)

        self.channel.confirm_select(confirmed, returned)

    async def publish(
        self, body: bytes, key: str = "", exchange: str = "", mandatory: bool = False, **props: Any
    ) -> None:
        prepared = self.transport.prepare(
            body, exchange=exchange, routing_key=key, properties=props, mandatory=mandatory
        )
        await self._tell("publish", lambda: self.channel.publish(prepared))

    async def ack(self, tag: int, **options: Any) -> None:
        await self._tell("ack", lambda: self.channel.ack(tag, **options))

    async def nack(self, tag: int, **options: Any) -> None:
        await self._tell("nack", lambda: self.channel.nack(tag, **options))

    async def reject(self, tag: int, **options: Any) -> None:
        await self._tell("reject", lambda: self.channel.reject(tag, **options))

    async def close_channel(self) -> None:
        await self.channel.aclose()
        self.channel = await self.link.open_channel()

    async def depth(self, *queues: str) -> None:
        """Write down what waits in each queue and who consumes, and all that was heard until now."""
        for queue in queues:
            await self.queue(queue, passive=True)
        self.hear()

    async def heard(self, count: int) -> None:
        """Wait until so many things were heard, then write them down."""
        with trio.move_on_after(PATIENCE) as waited:
            while len(self.news) < count:
                await self.stirred.wait()
                self.stirred = trio.Event()
        if waited.cancelled_caught:
            self.seen.append((self.name, "heard too little"))
        self.hear()

    def hear(self) -> None:
        if self.news:
            self.seen.append((self.name, "heard", list(self.news)))
            self.news.clear()

    async def pause(self, seconds: float) -> None:
        """Let time pass, which is what expiry waits for."""
        await trio.sleep(seconds)

    # details

    def _tells(self, *news: Any) -> None:
        self.news.append(news)
        self.stirred.set()

    async def _ask(self, word: str, request: Awaitable[Any]) -> None:
        with trio.fail_after(PATIENCE):
            try:
                answer = await request
            except (AMQPError, ConnectionLost) as error:
                self.seen.append((self.name, word, _refusal(error)))
                if "refused locally" not in str(error):
                    await self._reopen()
            else:
                self.seen.append((self.name, word, _plain(answer)))

    async def _tell(self, word: str, command: Callable[[], None]) -> None:
        command()
        with trio.fail_after(PATIENCE):
            try:
                await self._barrier()
            except (AMQPError, ConnectionLost) as error:
                self.seen.append((self.name, word, _refusal(error)))
                await self._reopen()
            else:
                self.seen.append((self.name, word, "ok"))

    async def _barrier(self) -> None:
        await self.channel.exchange_declare(ExchangeSpec(name="amq.direct"), passive=True)

    async def _reopen(self) -> None:
        if self.link.closed is None:
            with trio.fail_after(PATIENCE):
                await self.channel.wait_closed()
            self.channel = await self.link.open_channel()


def _binding(kind: BindingKind, source: str, destination: str, key: str, arguments: dict[str, Any]) -> BindingSpec:
    named = {name.replace("_", "-"): value for name, value in arguments.items()}
    return BindingSpec(kind=kind, source=source, destination=destination, routing_key=key, arguments=named)


def _refusal(error: BaseException) -> Any:
    if isinstance(error, ConnectionLost):
        return "lost"
    assert isinstance(error, AMQPError)
    return type(error).__name__, error.reply_code, _text(error), error.method_name


def _text(error: AMQPError) -> str:
    # The AMQP transport refuses by itself what would end the connection, in its own words.
    return str(error.reply_text).removeprefix("COMMAND_INVALID - ").split(" (refused locally")[0]


def _shown(delivery: Delivery) -> tuple[Any, ...]:
    properties = dict(delivery.properties)
    headers = dict(properties.get("headers") or {})
    if "x-death" in headers:
        headers["x-death"] = [{**death, "time": type(death["time"]).__name__} for death in headers["x-death"]]
    if headers:
        properties["headers"] = headers
    else:
        properties.pop("headers", None)
    return (
        delivery.delivery_tag,
        delivery.redelivered,
        delivery.exchange,
        delivery.routing_key,
        delivery.body,
        properties,
    )


def _plain(answer: Any) -> Any:
    if isinstance(answer, QueueInfo):
        return ("fresh" if answer.name.startswith("amq.gen-") else answer.name, answer.messages, answer.consumers)
    if isinstance(answer, tuple):
        return (*_shown(answer[0]), answer[1])
    return answer


Script = Callable[..., Awaitable[None]]


async def play(script: Script, url: str, players: int = 1) -> list[Any]:
    """Run a script with so many connections to one broker; return what was seen."""
    seen: list[Any] = []
    endpoint = parse_url(url)
    transport = transport_for(endpoint.scheme)

    @asynccontextmanager
    async def connected(name: str) -> Any:
        link = await transport.connect(endpoint, LinkOptions(connect_timeout=PATIENCE, heartbeat=0))
        async with trio.open_nursery() as nursery:
            for role in link.roles:
                nursery.start_soon(_serve, link, role)
            yield Player(transport, link, await link.open_channel(), seen, name)
            await link.aclose()

    async def enter(left: int, ready: list[Player]) -> None:
        if not left:
            await script(*ready)
            return
        async with connected("abcd"[len(ready)]) as player:
            await enter(left - 1, [*ready, player])

    await enter(players, [])
    return seen


async def _serve(link: Link, role: str) -> None:
    try:
        await link.run(role)
    except ConnectionLost:
        return  # the script sees it as an answer
