"""What in a program meets which row of ``docs/differences.md``.

A row is met by a name of kombu's (``Connection``), by a member of its objects (``Connection.drain_events``), by a call
with a keyword (``Connection(ssl)``), perhaps with a certain value (``Connection(heartbeat=0)``), or by a URL's scheme
(``redis://``).  A test holds the rows here against those of the page.
"""

from __future__ import annotations

from collections.abc import Mapping

_DECLARE = ("Queue.declare", "Exchange.declare", "common.maybe_declare")
_ACKS = ("Message.ack", "Message.reject", "Message.requeue")
_QUEUE_COUNTS = ("Queue.queue_declare", "simple.SimpleQueue.qsize")

MEETS: Mapping[str, tuple[str, ...]] = {
    # docs/differences.md, "Found by the behaviour suite"
    "drain-events-recovers": ("Connection.drain_events", "common.eventloop"),
    "channels-survive": ("Connection.autoretry",),
    "cancel-delivers": ("Consumer.cancel", "Consumer.cancel_by_queue"),
    "channel-limit": ("Connection.channel",),
    "heartbeat-default": ("Connection(heartbeat=0)", "Connection.heartbeat_check"),
    "url-connect-timeout": ("Connection(connect_timeout)",),
    "url-tls-keys": ("Connection(ssl)",),
    "bad-url-errors": ("Connection",),
    "unknown-arguments": ("Connection(**)",),
    "unknown-failover-strategy": ("Connection(failover_strategy)",),
    "failover-strategy-attribute": ("Connection.failover_strategy",),
    "alternates-and-url": ("Connection(alternates)",),
    "host-with-port": ("Connection(hostname)",),
    "ipv6-uri": ("Connection.as_uri",),
    "uri-prefix": ("Connection(uri_prefix)",),
    "mask-without-password": ("Connection.as_uri",),
    "no-guessed-password": ("Connection(userid)",),
    "rediss-verified": ("rediss://",),
    "sentinel-urls-together": ("sentinel://",),
    "socket-database": ("redis+socket://",),
    "eqhash-tls": ("pools.connections", "pools.producers"),
    "headers-unchanged": ("Producer.publish(compression)",),
    "declare-unchanged": ("Producer.publish(declare)",),
    "reply-to-queue": ("Producer.publish(reply_to)",),
    "mandatory-confirmed": ("Producer.publish(mandatory)", "Producer.on_return", "Producer(on_return)"),
    "no-ack-acknowledged": ("Consumer(no_ack)", "Queue(no_ack)", "Queue.get(no_ack)"),
    "empty-bodies": ("Message.body",),
    "expiring-queues": ("Queue(expires)",),
    "virtual-errors": ("Connection.channel_errors",),
    "memory-unbinds": ("Queue.unbind_from", "Exchange.unbind_from"),
    "virtual-topics": ("Exchange(type='topic')",),
    "memory-redelivered": ("Message.delivery_info",),
    "memory-exclusive": ("Queue(exclusive)",),
    "memory-requeues-on-close": ("memory://",),
    "pidbox-reply-queue": ("pidbox.Mailbox",),
    # On Redis
    "undeclared-fanout": ("Exchange(type='fanout')",),
    "undeclared": ("redis://",),
    "empty-queues": _QUEUE_COUNTS,
    "abandoned-brpop": ("redis://",),
    "no-ack-takes-all": ("Consumer(no_ack=True)", "Queue(no_ack=True)"),
    "redis-settings": ("Queue(queue_arguments)", "Queue(max_priority)"),
    "redis-exclusive": ("Queue(exclusive)",),
    "redis-limits": (
        *("Queue(message_ttl)", "Queue(max_length)", "Queue(max_length_bytes)", "Producer.publish(expiration)"),
    ),
    "redis-conditions": ("Queue.delete(if_empty)",),
    "redis-mandatory": ("Producer.publish(mandatory)",),
    "redis-exchange-types": ("Exchange.bind_to", "Exchange(type='headers')"),
    "durable-fanout": ("Exchange(type='fanout')",),
    "bad-priorities": ("Producer.publish(priority)",),
    "virtual-properties": ("Message.properties", "Message.delivery_info"),
    "redelivered-header": ("Message.headers",),
    "redis-flow": ("Consumer.flow",),
    "redis-manager": ("Connection.manager", "Connection.get_manager"),
    "redis-unknown-options": ("Connection(transport_options)",),
    "redis-drain-timeout": ("Connection.drain_events",),
    "redis-errors": ("Connection.connection_errors", "Connection.channel_errors"),
    "redis-wrong-password": ("redis://",),
    # By design
    "confirmed-underneath": ("Producer", "Connection.release", "Connection.Producer"),
    "publish-without-connection": ("Producer.publish",),
    "refused-publishes-once": ("Producer.publish",),
    "body-max": ("Producer.publish", "Queue.get"),
    "declarations-apart": (*_QUEUE_COUNTS, "Queue.purge", "Queue.delete"),
    "longest-delay": ("transport.native_delayed_delivery.calculate_routing_key",),
    "calls-behind-an-error": ("asynchronous.hub.Hub.call_soon",),
    "unknown-properties": ("Producer.publish(**)",),
    "publish-returns-then": ("Producer.publish",),
    "returned-messages": ("Producer.on_return", "Producer(on_return)"),
    "call-deadlines": ("Connection",),
    "connect-timeout-none": ("Connection(connect_timeout=None)",),
    "declarations-restored": _DECLARE,
    "stale-deliveries": (*_ACKS, "Message.ack_log_error", "Message.reject_log_error"),
    "channel-not-waited-for": ("Connection.channel",),
    "renamed-queues": ("Queue(exclusive)", "Queue(on_declared)"),
    "connect-tries-once": ("Connection.connect",),
    "endpoint-that-worked": ("Connection(failover_strategy)", "Connection(alternates)"),
    "ensure-asks-first": ("Connection.ensure",),
    "declares-in-ensure": ("Connection.ensure", "Connection.autoretry"),
    "ensure-connection-deadline": ("Connection.ensure_connection(timeout)",),
    "switch-forgets-alternates": ("Connection.switch",),
    "failover-iterators": ("Connection(failover_strategy)",),
    "nowait-waits": (
        "Queue.declare(nowait)",
        "Queue.delete(nowait)",
        "Exchange.declare(nowait)",
        "Queue.purge(nowait)",
    ),
    "immediate-refused": ("Producer.publish(immediate)",),
    "tls-verified": ("Connection(ssl)", "amqps://"),
    "headers-amqp-can-carry": ("Producer.publish(headers)",),
    "refused-not-decompressed": ("Consumer(on_decode_error)", "Consumer.on_decode_error"),
    "simple-queue-holds-one": ("Connection.SimpleQueue", "simple.SimpleQueue", "Connection.SimpleBuffer"),
    "simple-queue-counts": ("simple.SimpleQueue.qsize", "simple.SimpleQueue.clear"),
    "pool-timeouts": ("pools.connections", "pools.producers"),
    "mixin-not-restarted": ("mixins.ConsumerMixin", "mixins.ConsumerProducerMixin"),
    "restored-as-it-was-last": ("Queue.bind_to", "Queue.unbind_from", "Exchange.bind_to", "Exchange.unbind_from"),
    "manager-client": ("Connection.manager", "Connection.get_manager"),
    # Not there
    "other-transports": (
        *(
            "Connection(transport)",
            "sqs://",
            "mongodb://",
            "filesystem://",
            "sqla+mysql://",
            "sqlalchemy://",
            "pyro://",
        ),
        *("zookeeper://", "etcd://", "consul://", "confluentkafka://", "azureservicebus://", "azurestoragequeues://"),
        *("gcpubsub://", "qpid://", "slmq://", "librabbitmq://"),
    ),
    "login-methods": ("Connection(login_method)",),
    "credential-providers": ("Connection(credential_provider)", "Connection(password)"),
}
"""By the key of the row; the names are below ``kombu``."""

COMMON = frozenset(
    {
        *("get", "clear", "connect", "release", "delete", "purge", "flow", "cancel", "channel"),
        *("switch", "body", "headers", "properties", "manager", "ack", "reject", "ensure", "declare"),
        *("bind_to", "requeue"),
    }
)
"""Members that objects of others have, too: they count where the object is seen to be kombu's."""
