"""Declarations as they are kept in Redis, and what two of them must have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..._values.model import ExchangeSpec, QueueSpec
from ...utils.json import dumps, loads
from .._content import check_table
from ..virtual import EXCHANGE_TYPES
from ..virtual._arguments import (
    KNOWN_EXCHANGE_ARGUMENTS,
    KNOWN_QUEUE_ARGUMENTS,
    check_equivalent,
    queue_policy,
)
from ..virtual._errors import (
    Named,
    command_invalid,
    inequivalent,
    invalid_argument,
    precondition_failed,
    wire_type,
)

__all__ = ["check_same_exchange", "check_same_queue", "exchange_record", "queue_record"]

PLAIN: Final = b"0"
NOTABLE: Final = b"1"
"""In front of a queue's record: whether it says anything that the scripts must know."""

_POLICY: Final = {
    "x-message-ttl": "ttl",
    "x-expires": "expires",
    "x-max-length": "max_length",
    "x-overflow": "overflow",
    "x-dead-letter-exchange": "dlx",
    "x-dead-letter-routing-key": "dlk",
    "x-delivery-limit": "delivery_limit",
}
"""What the scripts call the arguments that they act on."""


def queue_record(spec: QueueSpec, what: Named) -> bytes:
    """What is kept of a queue: a flag, then JSON, to which the script adds the owner of an exclusive one.

    ``x-max-priority`` is taken and changes nothing: all queues have the priority steps of the options.

    Raises:
        PreconditionFailed: 406, RabbitMQ's refusal of an argument's value, or of one whose promise can't be
            kept in Redis (as it refuses those that a type of queue doesn't know).
        ValueError: an argument that AMQP can't carry.
    """
    arguments, _ = check_table("arguments", spec.arguments)
    policy = queue_policy(spec, what)
    if "x-max-length-bytes" in arguments:
        raise invalid_argument(
            "x-max-length-bytes", what, "Redis counts a list's messages and doesn't weigh them: use x-max-length"
        )
    if policy.single_active:
        raise invalid_argument(
            "x-single-active-consumer", what, "not known over Redis: consume with exclusive=True, and again after a 403"
        )
    acted_on: dict[str, object] = {
        name: arguments[argument] for argument, name in _POLICY.items() if argument in arguments
    }
    if policy.quorum:
        acted_on["quorum"] = True
    record: dict[str, object] = {
        "durable": spec.durable,
        "auto_delete": spec.auto_delete,
        "exclusive": spec.exclusive,
        "arguments": arguments,
    }
    if acted_on:
        record["policy"] = acted_on
    notable = bool(acted_on) or spec.exclusive or spec.auto_delete
    return (NOTABLE if notable else PLAIN) + dumps(record).encode()


def check_same_queue(stored: bytes, spec: QueueSpec, what: Named) -> None:
    """Raise 406 in RabbitMQ's words unless ``spec`` declares what ``stored`` records.

    A queue without record is stock kombu's, and whatever one takes it for.
    """
    if not stored:
        return
    record = _read(stored[1:])
    for name in ("durable", "auto_delete"):
        _check_same(name, what, getattr(spec, name), bool(record.get(name)))
    arguments, _ = check_table("arguments", spec.arguments)
    check_equivalent(KNOWN_QUEUE_ARGUMENTS, what, arguments, _table(record))


def exchange_record(spec: ExchangeSpec, what: Named) -> bytes:
    """What is kept of an exchange, as JSON.

    Raises:
        InvalidCommand: 503, a type that nobody knows.
        PreconditionFailed: 406, an argument of the wrong type.
        ValueError: an argument that AMQP can't carry.
    """
    if spec.type not in EXCHANGE_TYPES:
        raise command_invalid(f"unknown exchange type '{spec.type}'")
    arguments, _ = check_table("arguments", spec.arguments)
    alternate = arguments.get("alternate-exchange")
    if alternate is not None and not isinstance(alternate, str):
        raise precondition_failed(f"invalid type '{wire_type(alternate)}' for arg 'alternate-exchange' in {what}")
    record = {
        "type": spec.type,
        "durable": spec.durable,
        "auto_delete": spec.auto_delete,
        "internal": spec.internal,
        "arguments": arguments,
    }
    return dumps(record).encode()


def check_same_exchange(stored: bytes, spec: ExchangeSpec, what: Named) -> None:
    """Raise 406 in RabbitMQ's words unless ``spec`` declares what ``stored`` records; no record, no objection."""
    if not stored:
        return
    record = _read(stored)
    _check_same("type", what, spec.type, record.get("type"))
    for name in ("durable", "auto_delete", "internal"):
        _check_same(name, what, getattr(spec, name), bool(record.get(name)))
    arguments, _ = check_table("arguments", spec.arguments)
    check_equivalent(KNOWN_EXCHANGE_ARGUMENTS, what, arguments, _table(record))


def _read(record: bytes) -> Mapping[str, object]:
    found = loads(record)
    return found if isinstance(found, dict) else {}


def _table(record: Mapping[str, object]) -> Mapping[str, object]:
    """Lua can't tell an empty table from an empty list."""
    table = record.get("arguments")
    return table if isinstance(table, dict) else {}


def _check_same(argument: str, what: Named, received: object, current: object) -> None:
    if received != current:
        raise inequivalent(argument, what, received, current)
