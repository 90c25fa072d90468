"""Declarations are refused in RabbitMQ's words, and kept as the scripts read them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from amqp.exceptions import InvalidCommand, PreconditionFailed

from kombu_actors._values.model import ExchangeSpec, QueueSpec
from kombu_actors.protocols.redis.policies import (
    check_same_exchange,
    check_same_queue,
    exchange_record,
    queue_record,
)
from kombu_actors.protocols.virtual._errors import Named

QUEUE = Named("queue", "q", "0")
EXCHANGE = Named("exchange", "x", "0")


def queue(**fields: Any) -> QueueSpec:
    return QueueSpec(name="q", **fields)


def record(**fields: Any) -> tuple[str, dict[str, Any]]:
    written = queue_record(queue(**fields), QUEUE)
    return written[:1].decode(), json.loads(written[1:])


def test_a_plain_queue_is_marked_as_one() -> None:
    """Scripts don't read what is marked so."""
    spec = {"durable": True, "auto_delete": False, "exclusive": False, "arguments": {}}
    assert record() == ("0", spec)
    arguments = {"x-max-priority": 9, "x-queue-mode": "lazy", "x-queue-type": "classic", "mine": b"\xff"}
    flag, found = record(arguments=arguments)
    assert flag == "0"
    assert "policy" not in found
    assert found["arguments"]["x-max-priority"] == 9


def test_what_scripts_must_know_is_marked_and_named() -> None:
    """Times stay in milliseconds."""
    arguments = {
        "x-message-ttl": 5000,
        "x-expires": 60000,
        "x-max-length": 3,
        "x-overflow": "reject-publish",
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "dead",
    }
    flag, found = record(arguments=arguments)
    assert flag == "1"
    assert found["arguments"] == arguments
    assert found["policy"] == {
        "ttl": 5000,
        "expires": 60000,
        "max_length": 3,
        "overflow": "reject-publish",
        "dlx": "",
        "dlk": "dead",
    }
    _, quorum = record(arguments={"x-queue-type": "quorum", "x-delivery-limit": 2})
    assert quorum["policy"] == {"delivery_limit": 2, "quorum": True}
    assert record(exclusive=True)[0] == record(auto_delete=True)[0] == "1"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"x-message-ttl": -1}, "invalid arg 'x-message-ttl' for queue 'q' in vhost '0': {value_negative,-1}"),
        ({"x-dead-letter-routing-key": "k"}, "routing_key_but_no_dlx_defined"),
        ({"x-queue-type": "stream"}, "unsupported queue type"),
        ({"x-overflow": "x"}, "invalid_overflow"),
    ],
)
def test_bad_arguments_are_refused_as_rabbitmq_does(arguments: dict[str, Any], text: str) -> None:
    """406, before anything is sent."""
    with pytest.raises(PreconditionFailed) as caught:
        record(arguments=arguments)
    assert caught.value.reply_code == 406
    assert text in caught.value.reply_text


@pytest.mark.parametrize(
    ("arguments", "instead"),
    [({"x-max-length-bytes": 10}, "x-max-length"), ({"x-single-active-consumer": True}, "exclusive=True")],
)
def test_what_redis_cannot_do_is_said_with_what_can_be_done(arguments: dict[str, Any], instead: str) -> None:
    """Taken silently, it would be a broken promise."""
    with pytest.raises(PreconditionFailed) as caught:
        record(arguments=arguments)
    assert caught.value.reply_code == 406
    assert instead in caught.value.reply_text
    record(arguments={"x-single-active-consumer": False})


def test_what_amqp_cannot_carry_is_refused() -> None:
    """By the argument's name."""
    with pytest.raises(ValueError, match="arguments"):
        record(arguments={"a": object()})
    with pytest.raises(ValueError, match="arguments"):
        exchange_record(ExchangeSpec(name="x", arguments={"a": object()}), EXCHANGE)


def test_the_same_declaration_is_no_contradiction() -> None:
    """What isn't known to RabbitMQ may differ; what stock kombu made has no record to contradict."""
    arguments = {"x-message-ttl": 5, "x-dead-letter-exchange": "é", "mine": 1}
    first = queue(arguments=arguments)
    stored = queue_record(first, QUEUE)
    check_same_queue(stored, first, QUEUE)
    check_same_queue(stored, queue(arguments={**arguments, "mine": 2}), QUEUE)
    check_same_queue(b"", queue(durable=False), QUEUE)
    owned = b'1{"owner":"abc",' + queue_record(queue(exclusive=True), QUEUE)[2:]  # as the script adds it
    check_same_queue(owned, queue(exclusive=True), QUEUE)


DIFFERENT_QUEUES = [
    (
        {"durable": False},
        "inequivalent arg 'durable' for queue 'q' in vhost '0': received 'false' but current is 'true'",
    ),
    ({"auto_delete": True}, "inequivalent arg 'auto_delete' for queue 'q' in vhost '0'"),
    (
        {"arguments": {"x-message-ttl": 6}},
        "inequivalent arg 'x-message-ttl' for queue 'q' in vhost '0': received '6' but current is '5'",
    ),
    (
        {"arguments": {}},
        "inequivalent arg 'x-message-ttl' for queue 'q' in vhost '0': "
        "received none but current is the value '5' of type 'signedint'",
    ),
]


@pytest.mark.parametrize(("change", "text"), DIFFERENT_QUEUES)
def test_a_queue_declared_otherwise_is_refused(change: dict[str, Any], text: str) -> None:
    """406 with what was asked for and what there is."""
    stored = queue_record(queue(arguments={"x-message-ttl": 5}), QUEUE)
    with pytest.raises(PreconditionFailed) as caught:
        check_same_queue(stored, queue(**{"arguments": {"x-message-ttl": 5}, **change}), QUEUE)
    assert text in caught.value.reply_text


def test_exchanges_are_kept_and_compared() -> None:
    """Built-in ones answer with their type alone; the other fields are the defaults."""
    spec = ExchangeSpec(name="x", type="topic", arguments={"alternate-exchange": "alt"})
    stored = exchange_record(spec, EXCHANGE)
    assert json.loads(stored) == {
        "type": "topic",
        "durable": True,
        "auto_delete": False,
        "internal": False,
        "arguments": {"alternate-exchange": "alt"},
    }
    check_same_exchange(stored, spec, EXCHANGE)
    check_same_exchange(b"", spec, EXCHANGE)
    check_same_exchange(b'{"durable":true,"type":"topic"}', ExchangeSpec(name="x", type="topic"), EXCHANGE)
    check_same_exchange(b'{"durable":true,"type":"direct","arguments":[]}', ExchangeSpec(name="x"), EXCHANGE)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"type": "direct"}, "'type'"),
        ({"durable": False}, "'durable'"),
        ({"auto_delete": True}, "'auto_delete'"),
        ({"internal": True}, "'internal'"),
        ({"arguments": {"alternate-exchange": "alt"}}, "'alternate-exchange'"),
    ],
)
def test_an_exchange_declared_otherwise_is_refused(change: dict[str, Any], named: str) -> None:
    """406 by the first field that differs."""
    stored = exchange_record(ExchangeSpec(name="x", type="topic"), EXCHANGE)
    with pytest.raises(PreconditionFailed, match=named):
        check_same_exchange(stored, ExchangeSpec(**{"name": "x", "type": "topic", **change}), EXCHANGE)


def test_impossible_exchanges_are_refused() -> None:
    """As RabbitMQ refuses them."""
    with pytest.raises(InvalidCommand, match="unknown exchange type 'x-delayed'"):
        exchange_record(ExchangeSpec(name="x", type="x-delayed"), EXCHANGE)
    with pytest.raises(PreconditionFailed, match="alternate-exchange"):
        exchange_record(ExchangeSpec(name="x", arguments={"alternate-exchange": 7}), EXCHANGE)
