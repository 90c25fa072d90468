"""Declarations are data; bound to a channel they say kombu's words to it."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from amqp.exceptions import ChannelError, RecoverableConnectionError

from kombu_actors._facade.declare import maybe_declare
from kombu_actors.entity import Exchange, Queue, binding, maybe_delivery_mode
from kombu_actors.errors import ContentDisallowed, DecodeError, EncodeError, NotBoundError, SerializerNotInstalled
from kombu_actors.message import Message
from tests.facade.oracle import entity as oracle
from tests.facade.recording import recording_channel, recording_connection

EXCHANGES: list[dict[str, Any]] = [
    {},
    {"name": "e"},
    {"name": "e", "type": "topic", "durable": False, "auto_delete": True, "arguments": {"x-a": [1]}},
    {"name": "e", "delivery_mode": "transient", "passive": 1, "no_declare": True},
    {"name": "e", "delivery_mode": 2},
    {"name": "evil\n\x1b[31m", "type": "fanout", "unknown": "ignored"},
    {"name": None, "type": None},
]
QUEUES: list[dict[str, Any]] = [
    {},
    {"name": "q", "exchange": "e", "routing_key": "k"},
    {"name": "q", "exclusive": True},
    {"name": "q", "durable": False, "auto_delete": True, "alias": "other", "no_ack": True, "no_declare": True},
    {
        "name": "q", "expires": 30, "message_ttl": "1.5", "max_length": 5.0, "max_length_bytes": "10",
        "max_priority": 9, "queue_arguments": {"x-a": 1},
        "binding_arguments": {"x-b": 1}, "consumer_arguments": {"x-c": 1},
    },
    {"name": None, "routing_key": None, "exchange": None, "bindings": []},
]  # fmt: skip


def shown(entity: Any) -> Any:
    """Everything about an entity that can be compared between libraries."""
    if isinstance(entity, (Queue, Exchange, binding, oracle.Queue, oracle.Exchange, oracle.binding)):
        extra = (repr(entity), getattr(entity, "can_cache_declaration", None))
        return {name: shown(getattr(entity, name)) for name, _ in entity.attrs} | {"extra": extra}
    if isinstance(entity, (set, list)):
        return [shown(one) for one in entity]
    return entity


@pytest.mark.parametrize("given", EXCHANGES)
def test_exchanges_are_kombus(given: dict[str, Any]) -> None:
    """Attributes, conversions, defaults, repr, dict, hash."""
    ours, theirs = Exchange(**given), oracle.Exchange(**given)
    assert shown(ours) == shown(theirs)
    assert ours.as_dict() == theirs.as_dict()
    assert (str(ours), hash(ours)) == (str(theirs), hash(theirs))
    assert Exchange.attrs[:6] == oracle.Exchange.attrs[:6]


@pytest.mark.parametrize("given", QUEUES)
def test_queues_are_kombus(given: dict[str, Any]) -> None:
    """Attributes, conversions, defaults, repr, dict, hash."""
    ours, theirs = Queue(**given), oracle.Queue(**given)
    mine, other = shown(ours), shown(theirs)
    if given.get("expires"):  # kombu looks for x-expires only; its documentation means both
        mine["extra"] = other["extra"]
        assert not ours.can_cache_declaration
    assert mine == other
    assert ours.as_dict(recurse=True) == theirs.as_dict(recurse=True)
    assert hash(ours) == hash(theirs)
    assert Queue.attrs == oracle.Queue.attrs


def test_queues_with_several_bindings_are_kombus() -> None:
    """Given as ``bindings`` or in place of the exchange; the queue then has no exchange of its own."""
    for module in (oracle, None):
        exchange, bind, queue = (
            (oracle.Exchange, oracle.binding, oracle.Queue) if module else (Exchange, binding, Queue)
        )
        one = bind(exchange("e"), "k", {"a": 1}, {"b": 2})
        two = exchange("f").binding("l")
        made = [queue("q", [one, two]), queue("q", bindings={one, two}), queue("q", exchange("x"), bindings=[one, two])]
        for each in made:
            assert each.exchange is None
            assert {str(bound) for bound in each.bindings} == {"e->k", "f->l"}
        assert repr(one) == "<binding: e->k>"
        assert one.as_dict(recurse=True)["exchange"]["name"] == "e"
        assert repr(queue("q", [one])) == "<unbound Queue q -> [e->k]>"
        assert queue("q", [one]).as_dict(recurse=True)["bindings"][0]["routing_key"] == "k"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"exchange": "e", "exchange_type": "topic", "binding_key": "b", "routing_key": "r"},
        {"durable": False, "auto_delete": True, "exchange": "e"},
        {"exchange_durable": False, "queue_auto_delete": True, "exchange": "e", "exchange_arguments": {"a": 1}},
        {"queue_durable": False, "exchange_auto_delete": True, "exchange": "e", "delivery_mode": 1},
        {"expires": 3, "max_priority": 4, "queue_arguments": {"x": 1}, "no_ack": True, "unknown": 1},
    ],
)
def test_queues_from_dicts_are_kombus(options: dict[str, Any]) -> None:
    """The settings that kombu takes, with their prefixes."""
    ours, theirs = Queue.from_dict("q", **options), oracle.Queue.from_dict("q", **options)
    assert ours.as_dict(recurse=True) == theirs.as_dict(recurse=True)


@pytest.mark.parametrize("mode", [None, 0, 1, 2, "transient", "persistent"])
def test_delivery_modes_are_kombus(mode: Any) -> None:
    """By number or name, persistent if none is given."""
    assert maybe_delivery_mode(mode) == oracle.maybe_delivery_mode(mode)


def test_an_unknown_delivery_mode_is_refused_at_once() -> None:
    """Not at the first publish, and with the names that exist."""
    with pytest.raises(ValueError, match="transient, persistent, not 'presistent'"):
        Exchange("e", delivery_mode="presistent")
    with pytest.raises(ValueError, match="presistent"):
        maybe_delivery_mode("presistent")


def test_declarations_compare_by_what_they_declare() -> None:
    """And hash by name, so that equal ones hash alike."""
    exchange, queue = Exchange("e", "topic"), Queue("q", Exchange("e"), "k", queue_arguments={"a": 1})
    assert exchange == Exchange("e", "topic")
    assert exchange != Exchange("e", "direct")
    assert exchange != "e"
    assert queue == Queue("q", Exchange("e"), "k", queue_arguments={"a": 1})
    assert queue != Queue("q", Exchange("e"), "k")
    assert queue != exchange
    assert len({queue, Queue("q", Exchange("e"), "k", queue_arguments={"a": 1}), exchange}) == 2


def test_declarations_are_copied_and_pickled_unbound() -> None:
    """They are data: a module may hold them, a task may carry them."""
    channel = recording_channel()
    for entity in (
        Exchange("e", "topic", arguments={"a": 1}, delivery_mode=1),
        Queue("q", Exchange("e"), "k", expires=3, no_ack=True),
        Queue("q", [binding(Exchange("e"), "k")]),
    ):
        bound = entity(channel)
        for other in (copy.copy(bound), pickle.loads(pickle.dumps(bound))):
            assert not other.is_bound
            assert shown(other) | {"exchange": 0, "extra": 0} == shown(entity) | {"exchange": 0, "extra": 0}
            assert other == entity


def test_binding_makes_a_bound_copy() -> None:
    """The declaration itself stays unbound, whatever it is bound with."""
    channel = recording_channel()
    exchange, queue = Exchange("e"), Queue("q", Exchange("e"))
    for entity in (exchange, queue):
        for bound in (entity(channel), entity.bind(channel), type(entity)("x", channel=channel)):
            assert bound is not entity
            assert bound.is_bound
            assert bound.channel is channel
        assert not entity.is_bound
        assert repr(entity(channel)).endswith("bound to chan:7>")
    bound_queue = queue(channel)
    assert bound_queue.exchange is not None
    assert bound_queue.exchange.channel is channel
    assert queue.exchange is not None
    assert not queue.exchange.is_bound


def test_a_connection_stands_for_its_default_channel() -> None:
    """Where a channel is wanted."""
    connection = recording_connection()
    assert Exchange("e")(connection).channel is connection.default_channel
    assert Queue("q")(connection).channel is connection.default_channel


def test_maybe_bind_binds_once() -> None:
    """A bound entity keeps its channel; nothing to bind to binds nothing."""
    first, second = recording_channel(), recording_channel()
    exchange = Exchange("e")
    assert exchange.maybe_bind(None) is exchange
    assert not exchange.is_bound
    assert exchange.maybe_bind(first) is exchange
    assert exchange.maybe_bind(second).channel is first
    exchange.revive(second)
    assert exchange.channel is second
    unbound = Exchange("e")
    unbound.revive(second)
    assert not unbound.is_bound


def test_an_unbound_declaration_does_nothing() -> None:
    """It says what it lacks."""
    for call in (Exchange("e").declare, Exchange("e").delete, Queue("q").declare, Queue("q").purge, Queue("q").get):
        with pytest.raises(NotBoundError, match="not bound to a channel"):
            call()


def test_an_exchange_is_declared_as_kombu_declares_it() -> None:
    """Each setting reaches the broker; the channel may be given."""
    channel = recording_channel()
    Exchange("e", "topic", durable=False, auto_delete=True, arguments={"a": 1})(channel).declare()
    Exchange("e", passive=True).declare(channel=channel, nowait=True)
    Exchange("e")(channel).declare(passive=True)
    declared = channel.called("exchange_declare")
    assert declared[0] == {
        "exchange": "e", "type": "topic", "durable": False, "auto_delete": True, "arguments": {"a": 1},
        "nowait": False, "passive": False,
    }  # fmt: skip
    assert [one["passive"] for one in declared] == [False, True, True]
    assert declared[1]["nowait"]


@pytest.mark.parametrize("exchange", [Exchange(), Exchange("amq.topic"), Exchange("e", no_declare=True)])
def test_some_exchanges_are_never_declared(exchange: Exchange) -> None:
    """The default one, the broker's own, and those that say so."""
    channel = recording_channel()
    exchange(channel).declare()
    assert channel.calls == []


def test_exchanges_are_bound_to_exchanges() -> None:
    """By object or name, and unbound again."""
    channel = recording_channel()
    exchange = Exchange("to")(channel)
    exchange.bind_to(Exchange("from"), "k", {"a": 1})
    exchange.bind_to("from", channel=channel)
    exchange.unbind_from(Exchange("from"), "k", arguments={"a": 1})
    exchange.delete(if_unused=True)
    first = {"destination": "to", "source": "from", "routing_key": "k", "nowait": False, "arguments": {"a": 1}}
    assert channel.called("exchange_bind") == [first, {**first, "routing_key": "", "arguments": None}]
    assert channel.called("exchange_unbind") == [first]
    assert channel.called("exchange_delete") == [{"exchange": "to", "if_unused": True, "nowait": False}]


def test_an_exchange_publishes_raw_messages() -> None:
    """Text in its charset, bytes as they are, with the exchange's delivery mode unless told otherwise."""
    channel = recording_channel()
    exchange = Exchange("e", delivery_mode="transient")(channel)
    exchange.publish("é", routing_key="k")
    exchange.publish(b"x", mandatory=True, exchange="other")
    given = {"correlation_id": "c"}
    exchange.publish(
        exchange.Message("é", delivery_mode="persistent", properties=given, content_encoding="latin-1", priority=3)
    )
    text, raw, made = channel.called("basic_publish")
    assert text["message"]["body"] == "é".encode()
    assert text["message"]["content_encoding"] == "utf-8"
    assert text["message"]["properties"] == {"delivery_mode": 1}
    assert (text["exchange"], text["routing_key"], text["mandatory"]) == ("e", "k", False)
    assert (raw["message"]["body"], raw["message"]["content_encoding"]) == (b"x", None)
    assert (raw["exchange"], raw["routing_key"], raw["mandatory"]) == ("other", "", True)
    assert made["message"]["body"] == "é".encode("latin-1")
    assert made["message"]["properties"] == {"delivery_mode": 2, "correlation_id": "c"}
    assert made["message"]["priority"] == 3
    assert given == {"correlation_id": "c"}
    with pytest.raises(EncodeError):
        exchange.Message("é", content_encoding="us-ascii")


def test_a_queue_declares_exchange_queue_and_binding_in_that_order() -> None:
    """With all settings; what it was called is returned."""
    channel = recording_channel()
    queue = Queue(
        "q", Exchange("e", "topic"), "k", expires=30, max_length=5, queue_arguments={"x": 1}, binding_arguments={"b": 1}
    )
    assert queue(channel).declare() == "q"
    assert channel.names() == ["exchange_declare", "queue_declare", "queue_bind"]
    assert channel.called("queue_declare") == [
        {
            "queue": "q", "passive": False, "durable": True, "exclusive": False, "auto_delete": False, "nowait": False,
            "arguments": {"x": 1, "expires": 30.0, "max_length": 5},
        }
    ]  # fmt: skip
    assert channel.called("queue_bind") == [
        {"queue": "q", "exchange": "e", "routing_key": "k", "arguments": {"b": 1}, "nowait": False}
    ]


def test_the_default_exchange_needs_no_binding() -> None:
    """Every queue is bound to it by name."""
    channel = recording_channel()
    Queue("q")(channel).declare()
    assert channel.names() == ["queue_declare"]


def test_each_of_several_bindings_is_declared() -> None:
    """With its exchange and arguments."""
    channel = recording_channel()
    Queue("q", [binding(Exchange("e"), "k", {"a": 1}), binding(Exchange("f"), "l")])(channel).declare()
    assert sorted((one["exchange"], one["routing_key"]) for one in channel.called("queue_bind")) == [
        ("e", "k"),
        ("f", "l"),
    ]
    assert sorted(one["exchange"] for one in channel.called("exchange_declare")) == ["e", "f"]
    one = binding(Exchange("e"), "k", unbind_arguments={"u": 1})
    one.unbind(Queue("q"), channel=channel)
    assert channel.called("queue_unbind")[0]["arguments"] == {"u": 1}


def test_no_declare_declares_nothing() -> None:
    """But the name comes back."""
    channel = recording_channel()
    assert Queue("q", Exchange("e"), no_declare=True)(channel).declare() == "q"
    assert channel.calls == []


def test_a_nameless_queue_takes_the_brokers_name() -> None:
    """The bound copy, and its bindings; ``on_declared`` hears of it."""
    heard: list[tuple[str, int, int]] = []
    channel = recording_channel()
    queue = Queue(exchange=Exchange("e"), on_declared=lambda *args: heard.append(args))
    bound = queue(channel)
    assert bound.declare() == "amq.gen-1"
    assert channel.called("queue_bind")[0]["queue"] == "amq.gen-1"
    assert heard == [("amq.gen-1", 3, 1)]
    assert queue.name == ""
    assert bound.queue_declare(passive=True) == ("amq.gen-1", 3, 1)


def test_a_declaration_without_answer_is_no_failure() -> None:
    """What ``nowait`` may mean to a channel: nothing is known, and ``on_declared`` has nothing to hear."""
    channel = recording_channel()
    channel.queue_declare = lambda **options: None
    queue = Queue("q", on_declared=lambda *args: pytest.fail("called"))(channel)
    assert queue.queue_declare(nowait=True) is None


def test_exclusive_queues_are_auto_delete() -> None:
    """As documented."""
    assert Queue("q", exclusive=True).auto_delete


def test_queue_verbs_reach_the_channel() -> None:
    """Each with its arguments; ``no_ack`` defaults to the queue's."""
    channel = recording_channel()
    queue = Queue("q", Exchange("e"), "k", no_ack=True, consumer_arguments={"c": 1})(channel)
    assert queue.purge() == 5
    assert queue.purge(nowait=True) == 0
    queue.consume("tag", print)
    queue.consume(no_ack=False)
    queue.cancel("tag")
    queue.queue_unbind()
    queue.unbind_from("other", "x")
    queue.delete(if_unused=True)
    consumed = channel.called("basic_consume")
    assert consumed[0] == {
        "queue": "q", "no_ack": True, "consumer_tag": "tag", "callback": print, "nowait": False, "arguments": {"c": 1},
        "on_cancel": None,
    }  # fmt: skip
    assert (consumed[1]["no_ack"], consumed[1]["consumer_tag"]) == (False, "")
    assert [one["exchange"] for one in channel.called("queue_unbind")] == ["e", "other"]
    assert channel.called("queue_delete") == [{"queue": "q", "if_unused": True, "if_empty": False, "nowait": False}]


def test_get_polls_one_message() -> None:
    """What may be decoded is decided at decoding; what can't be unpacked is raised at once."""
    channel = recording_channel()
    queue = Queue("q")(channel)
    assert queue.get() is None
    channel.waiting.append(Message(b"[1]", content_type="application/json"))
    message = queue.get(no_ack=True, accept=["pickle"])
    assert message is not None
    assert channel.calls[-1] == ("basic_get", {"queue": "q", "no_ack": True})
    with pytest.raises(ContentDisallowed):
        message.decode()
    channel.waiting.append(Message(b"[1]", content_type="application/json"))
    message = queue.get()
    assert message is not None
    assert message.payload == [1]
    channel.waiting.append(Message(b"x", headers={"compression": "gzip"}))
    with pytest.raises(DecodeError):
        queue.get()
    channel.waiting.append(Message(b"[1]"))
    with pytest.raises(SerializerNotInstalled):
        queue.get(accept=["jsno"])


def test_maybe_declare_declares_once_per_connection() -> None:
    """Whichever channel, copy or spelling; another connection declares for itself."""
    connection = recording_connection()
    first, second = recording_channel(connection), recording_channel(connection)
    queue = Queue("q", Exchange("e"), "k")
    assert maybe_declare(queue, first) is True
    assert maybe_declare(Queue("q", Exchange("e"), "k")(second)) is False
    assert maybe_declare(queue, second) is False
    assert second.calls == []
    assert maybe_declare(queue, recording_channel()) is True
    connection.declared_entities.clear()
    assert maybe_declare(queue, second) is True


def test_maybe_declare_tells_declarations_of_one_name_apart() -> None:
    """A second binding, another type or argument is declared: kombu, going by name, would skip it."""
    channel = recording_channel()
    declarations: list[Exchange | Queue] = [
        Queue("n", Exchange("e"), "k"),
        Queue("n", Exchange("e"), "l"),
        Queue("n", Exchange("e"), "l", queue_arguments={"x": {"y": [1]}}),
        Queue("n", [binding(Exchange("e"), "m")]),
        Queue("n", max_length=3),
        Exchange("n"),
        Exchange("n", "topic"),
        Exchange("n", arguments={"a": 1}),
    ]
    assert [maybe_declare(one, channel) for one in declarations] == [True] * len(declarations)
    assert [maybe_declare(one, channel) for one in declarations] == [False] * len(declarations)


@pytest.mark.parametrize(
    "entity",
    [
        Exchange("e", auto_delete=True), Queue("q", auto_delete=True), Queue("q", exclusive=True),
        Queue("q", expires=3), Queue("q", queue_arguments={"x-expires": 3000}),
    ],
)  # fmt: skip
def test_what_may_have_gone_is_declared_each_time(entity: Any) -> None:
    """Auto-delete and expiring entities can't be remembered."""
    channel = recording_channel()
    assert not entity.can_cache_declaration
    assert maybe_declare(entity, channel) is True
    assert maybe_declare(entity, channel) is True
    assert channel.connection.declared_entities == set()


def test_maybe_declare_names_a_nameless_queue() -> None:
    """The very object that was given: its owner wants to know."""
    queue = Queue()
    maybe_declare(queue, recording_channel())
    assert queue.name == "amq.gen-1"
    assert not queue.is_bound


def test_maybe_declare_can_retry() -> None:
    """By the connection's ``ensure``, with the policy given."""
    channel = recording_channel()
    channel.failures["queue_declare"] = [RecoverableConnectionError("lost")]
    queue = Queue("q")
    assert maybe_declare(queue, channel, retry=True, max_retries=3) is True
    assert channel.connection.ensured == [(queue, {"max_retries": 3})]


def test_maybe_declare_needs_a_channel() -> None:
    """From somewhere, and one that is connected."""
    with pytest.raises(ChannelError, match="Cannot bind"):
        maybe_declare(Queue("q"))
    channel: Any = recording_channel()
    channel.connection = None
    with pytest.raises(RecoverableConnectionError):
        maybe_declare(Queue("q"), channel)
