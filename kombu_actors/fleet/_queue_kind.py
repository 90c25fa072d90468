"""Of what kind a queue is, as far as that says who gets its messages.

The protocol has no question for it.  But to who declares a queue differently than it is, RabbitMQ says how it is, one
argument at a time; and an argument that can't be right makes sure that nothing is ever declared.
"""

from __future__ import annotations

import re
from enum import Enum

import trio

from .._logs import get_logger
from ..broker import Broker, QueueSpec
from ..errors import AccessRefused, KombuError, NotFound, PreconditionFailed, ResourceLocked

__all__ = ["Kind", "kind_of", "learn_kind"]

logger = get_logger("kombu_actors.fleet")

SINGLE_ACTIVE, TYPE = "x-single-active-consumer", "x-queue-type"
ASKED_MAX = 25
"""Questions about one queue: RabbitMQ knows some twenty arguments."""
_REFUSAL = re.compile(
    r"inequivalent arg '(?P<name>[^']+)' .*current is (?:the value )?'?(?P<value>.*?)'?(?: of type '(?P<type>\w+)')?$"
)


class Kind(Enum):
    """Who gets a queue's messages."""

    SHARED = "shared"
    """All its consumers, in turn."""
    SINGLE_ACTIVE = "single active"
    """One of them, until it is gone."""
    STREAM = "stream"
    """Each of them all; and they stay, so that their number says nothing."""


def kind_of(queue: QueueSpec) -> Kind:
    """Of a queue that the program has declared."""
    if queue.arguments.get(TYPE) == "stream":
        return Kind.STREAM
    return Kind.SINGLE_ACTIVE if queue.arguments.get(SINGLE_ACTIVE) is True else Kind.SHARED


async def learn_kind(broker: Broker, name: str, *, timeout: float) -> Kind:
    """Of a queue that somebody else may have declared; where the broker doesn't tell, it is SHARED."""
    durable, exclusive, auto_delete = True, False, False
    arguments: dict[str, object] = {SINGLE_ACTIVE: "?"}
    at = trio.current_time() + timeout
    for _ in range(ASKED_MAX):
        try:
            asked = QueueSpec(
                name=name, durable=durable, exclusive=exclusive, auto_delete=auto_delete, arguments=arguments
            )
            await broker.declare(asked, timeout=max(at - trio.current_time(), 0.0))
        except PreconditionFailed as refusal:
            told = _REFUSAL.search(str(refusal))
            if told is None:
                break
            value = _value(told["value"], told["type"])
            if told["name"] == SINGLE_ACTIVE:
                return Kind.SINGLE_ACTIVE if value is True else Kind.SHARED
            if told["name"] == TYPE and value == "stream":
                return Kind.STREAM
            match told["name"]:
                case "durable":
                    durable = bool(value)
                case "exclusive":
                    exclusive = bool(value)
                case "auto_delete":
                    auto_delete = bool(value)
                case name_of_argument:
                    arguments[name_of_argument] = value
        except (KombuError, NotFound, AccessRefused, ResourceLocked) as error:
            logger.debug("queue %r can't be asked for its kind: %s", name, error)
            break
        else:
            break
    logger.debug("queue %r: the broker doesn't tell of what kind it is", name)
    return Kind.SHARED


def _value(text: str, type: str | None) -> object:
    if text in ("true", "false"):
        return text == "true"
    return int(text) if (type is not None and "int" in type) or type in ("long", "short", "byte") else text
