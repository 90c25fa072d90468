"""Messages that are larger than ``body_max``: what is said about them, the same on every transport."""

from __future__ import annotations

from amqp import exceptions as amqp_errors

from .._logs import get_logger

__all__ = ["report_oversized", "too_large"]

logger = get_logger("kombu_actors.oversized")


def report_oversized(
    size: int, body_max: int, *, queue: str | None, exchange: str, routing_key: str, no_ack: bool = False
) -> None:
    """Log that a message was not taken; ``queue`` is None for one that came back to its publisher."""
    if queue is None:
        fate = "came back to its publisher, who is told so without the body"
    elif no_ack:
        fate = f"from queue {queue!r} is lost: it was consumed with no_ack"
    else:
        fate = f"from queue {queue!r} was rejected: dropped, or dead-lettered if the queue says where"
    logger.error(
        "a message of %d bytes (exchange %r, routing key %r) is larger than body_max, %d, and %s; "
        "raise body_max to take such messages",
        *(size, exchange, routing_key, body_max, fate),
    )


def too_large(size: int, body_max: int, *, queue: str, no_ack: bool) -> amqp_errors.ContentTooLarge:
    """What ``basic.get`` raises for such a message: asking again gets the next one."""
    fate = "it is lost (no_ack)" if no_ack else "it was rejected"
    return amqp_errors.ContentTooLarge(
        f"the next message of queue {queue!r} has {size} bytes, where body_max allows {body_max}: {fate}; get again "
        "for the one after it, or raise body_max",
        (60, 70),
        reply_code=311,
    )
