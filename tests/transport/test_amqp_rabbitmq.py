"""The AMQP link against a real RabbitMQ: every method of the contract, and the broker's own refusals."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
from amqp import exceptions as amqp_errors

from kombu_actors._values.endpoint import Endpoint, LinkOptions, parse_url
from kombu_actors._values.model import (
    BindingKind,
    BindingSpec,
    ConsumerSpec,
    Delivery,
    ExchangeSpec,
    QueueInfo,
    QueueSpec,
    Returned,
)
from kombu_actors._values.tls_settings import tls_settings
from kombu_actors.errors import ConnectionClosed, ConnectionLost, HandshakeFailed
from kombu_actors.transport.amqp import AMQPTransport
from kombu_actors.transport.amqp.channel import AMQPChannel
from kombu_actors.transport.amqp.link import AMQPLink
from tests.support.certs import Certificates
from tests.support.proxy import FaultProxy
from tests.support.rabbitmq import RabbitMQNode
from tests.support_amqp_server import served

transport = AMQPTransport()
OwnRabbitMQ = Callable[..., RabbitMQNode]


async def connect(url: str, **options: Any) -> AMQPLink:
    return await transport.connect(parse_url(url), LinkOptions(**{"connect_timeout": 20, **options}))


def prepared(body: bytes = b"x", routing_key: str = "q", exchange: str = "", mandatory: bool = False) -> Any:
    properties = {"delivery_mode": 2, "headers": {}}
    return transport.prepare(
        body, exchange=exchange, routing_key=routing_key, properties=properties, mandatory=mandatory
    )


class Confirms:
    """Counts what was confirmed, refused and returned, in order."""

    def __init__(self, channel: AMQPChannel) -> None:
        self.channel = channel
        self.sent = 0
        self.confirmed: set[int] = set()
        self.refused: set[int] = set()
        self.log: list[object] = []
        self._changed = trio.Event()

    async def select(self) -> None:
        self.channel.confirm_select(self._on_confirm, self._on_return)

    def publish(self, message: Any) -> None:
        self.channel.publish(message)
        self.sent += 1

    def _on_confirm(self, tag: int, multiple: bool, accepted: bool) -> None:
        settled = self.confirmed | self.refused
        tags = {each for each in range(1 if multiple else tag, tag + 1) if each not in settled}
        (self.confirmed if accepted else self.refused).update(tags)
        self.log.append((tag, accepted))
        self._changed.set()
        self._changed = trio.Event()

    def _on_return(self, returned: Returned) -> None:
        self.log.append((returned.code, returned.routing_key))

    async def all_settled(self) -> None:
        while len(self.confirmed) + len(self.refused) < self.sent:
            await self._changed.wait()


class Inbox:
    """Collects deliveries and waits for a number of them."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self._came = trio.Event()

    def __call__(self, batch: list[Delivery]) -> None:
        self.deliveries += batch
        self._came.set()
        self._came = trio.Event()

    async def reaches(self, count: int) -> list[Delivery]:
        while len(self.deliveries) < count:
            await self._came.wait()
        return self.deliveries


async def test_every_method_of_the_contract_works(amqp_url: str) -> None:
    """Declare, bind both ways, publish, confirm, return, get, consume, ack, purge, delete, recover."""
    async with served(await connect(amqp_url, heartbeat=10)) as link:
        assert link.server_properties["product"] == "RabbitMQ"
        channel = await link.open_channel()
        await channel.exchange_declare(ExchangeSpec(name="up", type="topic"))
        await channel.exchange_declare(ExchangeSpec(name="up", type="topic"), passive=True)
        await channel.exchange_declare(ExchangeSpec(name="down", type="direct"))
        pipe = BindingSpec(kind=BindingKind.EXCHANGE, source="up", destination="down", routing_key="a.*")
        await channel.exchange_bind(pipe)
        assert await channel.queue_declare(QueueSpec(name="q", arguments={"x-max-length": 9})) == QueueInfo("q", 0, 0)
        binding = BindingSpec(kind=BindingKind.QUEUE, source="down", destination="q", routing_key="a.b")
        await channel.queue_bind(binding)
        named = await channel.queue_declare(QueueSpec(name="", exclusive=True))
        assert named.name.startswith("amq.gen-")

        confirms = Confirms(channel)
        await confirms.select()
        confirms.publish(prepared(b"one", "a.b", "up"))
        confirms.publish(prepared(b"nowhere", "z", "up", mandatory=True))
        await confirms.all_settled()
        assert (312, "z") in confirms.log
        assert confirms.log.index((312, "z")) < len(confirms.log) - 1 or confirms.log[0] == (312, "z")

        got = await channel.get("q")
        assert got is not None
        delivery, remaining = got
        expected = Delivery("", 1, False, "up", "a.b", {"delivery_mode": 2, "headers": {}}, b"one")
        assert (delivery, remaining) == (expected, 0)
        channel.reject(1, requeue=True)

        await channel.qos(prefetch_count=10)
        inbox = Inbox()
        assert await channel.consume(ConsumerSpec(tag="", queue="q"), inbox, lambda: None)
        (again,) = await inbox.reaches(1)
        assert again.redelivered
        await channel.recover(requeue=True)
        (_, third) = await inbox.reaches(2)
        channel.nack(third.delivery_tag, requeue=False)
        await channel.cancel(third.consumer_tag)
        assert await channel.get("q") is None
        channel.publish(prepared(b"two", "a.b", "up"))
        assert await channel.queue_purge("q") in (0, 1)
        await channel.queue_unbind(binding)
        await channel.exchange_unbind(pipe)
        await channel.exchange_delete("up")
        await channel.exchange_delete("down", if_unused=True)
        assert await channel.queue_delete("q") == 0
        await channel.flow(True)
        await channel.aclose()
    assert isinstance(link.closed, ConnectionClosed)


async def test_no_message_is_lost_or_reordered_on_the_way(amqp_url: str) -> None:
    """A window of thousands, bodies from nothing to several frames, back in order and byte for byte."""
    bodies = [bytes([number % 256]) * (number % 700) for number in range(3000)]
    bodies[1500] = bytes(range(256)) * 4000
    async with served(await connect(amqp_url)) as link:
        out, back = await link.open_channel(), await link.open_channel()
        await out.queue_declare(QueueSpec(name="q"))
        confirms, inbox = Confirms(out), Inbox()
        await confirms.select()
        await back.qos(prefetch_count=100)

        def take(batch: list[Delivery]) -> None:
            inbox(batch)
            back.ack(batch[-1].delivery_tag, multiple=True)

        await back.consume(ConsumerSpec(tag="c", queue="q"), take, lambda: None)
        for body in bodies:
            confirms.publish(prepared(body))
        await confirms.all_settled()
        deliveries = await inbox.reaches(len(bodies))
        assert [delivery.body for delivery in deliveries] == bodies
        assert [delivery.delivery_tag for delivery in deliveries] == list(range(1, len(bodies) + 1))
        await back.cancel("c")
        assert (await back.queue_declare(QueueSpec(name="q"), passive=True)).messages == 0


@pytest.mark.parametrize(
    ("provoke", "kind"),
    [
        (lambda channel: channel.queue_declare(QueueSpec(name="none"), passive=True), amqp_errors.NotFound),
        (lambda channel: channel.queue_declare(QueueSpec(name="amq.mine")), amqp_errors.AccessRefused),
        (lambda channel: channel.queue_declare(QueueSpec(name="q", durable=False)), amqp_errors.PreconditionFailed),
        (lambda channel: channel.consume(ConsumerSpec(tag="x", queue="none"), print, print), amqp_errors.NotFound),
    ],
)
async def test_the_brokers_refusals_end_the_channel_only(
    amqp_url: str, provoke: Callable[[AMQPChannel], Any], kind: type[Exception]
) -> None:
    """404, 403, 406 as py-amqp's classes; the sibling doesn't notice."""
    async with served(await connect(amqp_url)) as link:
        channel, sibling = await link.open_channel(), await link.open_channel()
        await sibling.queue_declare(QueueSpec(name="q"))
        with pytest.raises(kind):
            await provoke(channel)
        assert isinstance(await channel.wait_closed(), kind)
        assert await sibling.queue_purge("q") == 0


async def test_a_publish_to_a_missing_exchange_ends_its_channel(amqp_url: str) -> None:
    """Asynchronously, by 404; so does a double ack, by 406."""
    async with served(await connect(amqp_url)) as link:
        channel = await link.open_channel()
        channel.publish(prepared(exchange="missing"))
        assert isinstance(await channel.wait_closed(), amqp_errors.NotFound)
        channel = await link.open_channel()
        channel.ack(77)
        assert isinstance(await channel.wait_closed(), amqp_errors.PreconditionFailed)


async def test_a_deleted_queue_cancels_its_consumer(amqp_url: str) -> None:
    """The capability consumer_cancel_notify was claimed, so the broker tells."""
    cancelled = trio.Event()
    async with served(await connect(amqp_url)) as link:
        channel, other = await link.open_channel(), await link.open_channel()
        await channel.queue_declare(QueueSpec(name="q"))
        await channel.consume(ConsumerSpec(tag="c", queue="q"), lambda _: None, cancelled.set)
        await other.queue_delete("q")
        await cancelled.wait()
        assert channel.closed is None


async def test_wrong_credentials_and_vhosts_are_told_apart(rabbitmq: RabbitMQNode) -> None:
    """403 and 530 with user and virtual host, never with the password."""
    wrong = Endpoint(scheme="amqp", host="127.0.0.1", port=rabbitmq.port, userid="guest", password="canary-secret")
    with pytest.raises(amqp_errors.AccessRefused, match="user 'guest'") as refused:
        await transport.connect(wrong, LinkOptions())
    assert "canary-secret" not in repr(refused.value) + str(refused.value)
    nowhere = wrong.but(password="guest", virtual_host="nowhere")
    with pytest.raises(amqp_errors.NotAllowed, match="virtual host 'nowhere'"):
        await transport.connect(nowhere, LinkOptions())


async def test_tls_works_and_plain_to_the_tls_port_says_what_to_do(
    rabbitmq: RabbitMQNode, certificates: Certificates, vhost: str
) -> None:
    """Verified by name and chain; large bodies both ways."""
    tls = tls_settings({"ca_certs": str(certificates.ca)})
    endpoint = Endpoint(scheme="amqps", host="localhost", port=rabbitmq.tls_port, virtual_host=vhost, tls=tls)
    async with served(await transport.connect(endpoint, LinkOptions(heartbeat=10))) as link:
        channel = await link.open_channel()
        await channel.queue_declare(QueueSpec(name="q"))
        channel.publish(prepared(bytes(1_000_000)))
        inbox = Inbox()
        await channel.consume(ConsumerSpec(tag="c", queue="q", no_ack=True), inbox, lambda: None)
        assert (await inbox.reaches(1))[0].body == bytes(1_000_000)
    assert isinstance(link.closed, ConnectionClosed)
    with pytest.raises(HandshakeFailed, match="amqps://"):
        await transport.connect(endpoint.but(scheme="amqp", tls=None), LinkOptions())
    with pytest.raises(HandshakeFailed, match="doesn't speak TLS"):
        await transport.connect(endpoint.but(port=rabbitmq.port), LinkOptions())


async def test_an_operators_close_is_a_lost_connection(rabbitmq: RabbitMQNode, vhost: str) -> None:
    """320, with the operator's words; the cause is py-amqp's class."""
    link = await connect(rabbitmq.url(vhost=vhost))
    async with served(link):
        await trio.to_thread.run_sync(lambda: rabbitmq.close_all_connections("maintenance", vhost))
        reason = await link.wait_closed()
    assert isinstance(reason, ConnectionLost)
    assert "320" in str(reason)
    assert "maintenance" in str(reason)
    assert isinstance(reason.__cause__, amqp_errors.ConnectionForced)


@pytest.mark.parametrize("fault", ["reset", "finish", "blackhole"])
async def test_a_broken_network_is_a_lost_connection(rabbitmq: RabbitMQNode, vhost: str, fault: str) -> None:
    """Reset and end of stream at once, silence within two heartbeats and a second."""
    with FaultProxy(rabbitmq.port) as proxy:
        link = await connect(rabbitmq.url(vhost=vhost, port=proxy.port), heartbeat=2)
        async with served(link):
            channel = await link.open_channel()
            getattr(proxy, fault)()
            with trio.fail_after(5 if fault == "blackhole" else 1.5):
                reason = await link.wait_closed()
            assert isinstance(reason, ConnectionLost)
            assert channel.closed is reason


async def test_heartbeats_flow_while_threads_burn_cpu(amqp_url: str) -> None:
    """P4: four intervals of pure Python in other threads; neither side gives up."""
    stop = threading.Event()

    def burn() -> None:
        while not stop.is_set():
            sum(range(1000))

    async with served(await connect(amqp_url, heartbeat=1)) as link:
        threads = [threading.Thread(target=burn) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            with trio.move_on_after(4):
                await link.wait_closed()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert link.closed is None
        channel = await link.open_channel()
        await channel.aclose()


async def test_an_alarm_blocks_and_goodbye_does_not_hang(own_rabbitmq: OwnRabbitMQ) -> None:
    """connection.blocked after the first publish; unblocked when it is over; close is quick meanwhile."""
    node = own_rabbitmq()
    changes: list[str | None] = []
    changed = trio.Event()

    def note(reason: str | None) -> None:
        changes.append(reason)
        if reason is None:
            changed.set()

    async with served(await connect(node.url())) as stuck, served(await connect(node.url(), heartbeat=2)) as link:
        for each in (stuck, link):
            await (await each.open_channel()).queue_declare(QueueSpec(name="q"))
        link.on_blocked(note)
        node.set_memory_alarm()
        try:
            blocked = trio.Event()
            stuck.on_blocked(lambda _: blocked.set())
            for each in (stuck, link):
                channel = await each.open_channel()
                confirms = Confirms(channel)
                await confirms.select()
                confirms.publish(prepared())
            await blocked.wait()
            assert stuck.blocked == "low on memory"
            started = trio.current_time()
            await stuck.aclose()
            assert trio.current_time() - started < 3
            with trio.move_on_after(5):  # longer than two heartbeats: the broker still beats, and so do we
                await link.wait_closed()
            assert link.closed is None
            assert link.blocked == "low on memory"
        finally:
            node.clear_memory_alarm()
        await changed.wait()
        await confirms.all_settled()
        assert changes == ["low on memory", None]


@pytest.mark.slow
async def test_a_stopped_broker_is_found_out(own_rabbitmq: OwnRabbitMQ) -> None:
    """SIGSTOP: TCP goes on, nobody answers.  Live links die in time, new ones aren't waited for."""
    node = own_rabbitmq()
    link = await connect(node.url(), heartbeat=2)
    async with served(link):
        node.sigstop()
        try:
            with trio.fail_after(5.5):
                assert isinstance(await link.wait_closed(), ConnectionLost)
            with pytest.raises(Exception, match="did not answer within"):
                await connect(node.url(), connect_timeout=0.5)
        finally:
            node.sigcont()


@pytest.mark.slow
async def test_a_client_certificate_logs_in_or_its_absence_is_named(
    own_rabbitmq: OwnRabbitMQ, certificates: Certificates
) -> None:
    """TLS 1.3 tells only with the first bytes read that a certificate is missing."""
    node = own_rabbitmq(tls=certificates, require_client_certificate=True)
    without = tls_settings({"ca_certs": str(certificates.ca)})
    endpoint = Endpoint(scheme="amqps", host="localhost", port=node.tls_port, tls=without)
    with pytest.raises(HandshakeFailed, match="client certificate"):
        await transport.connect(endpoint, LinkOptions())
    options = {"ca_certs": certificates.ca, "certfile": certificates.client.certificate}
    with_certificate = tls_settings({**options, "keyfile": certificates.client.key})
    link = await transport.connect(endpoint.but(tls=with_certificate), LinkOptions())
    async with served(link):
        await link.open_channel()


async def test_nothing_stays_at_the_broker(rabbitmq: RabbitMQNode, vhost: str) -> None:
    """Closed politely, killed or cancelled while opening: the broker sees all of them end."""
    url = rabbitmq.url(vhost=vhost)
    async with served(await connect(url)) as link:
        await link.open_channel()
    (await connect(url)).kill(ConnectionLost("enough"))
    with trio.move_on_after(0.002):
        link = await connect(url)
        link.kill(ConnectionLost("faster than expected"))
    await trio.to_thread.run_sync(lambda: rabbitmq.wait_until_no_connections(vhost))
