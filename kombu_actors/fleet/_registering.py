"""From the arguments of a registration to a plan, or a sentence that says what is wrong.  Pure."""

from __future__ import annotations

import inspect
import math
from collections.abc import Collection, Sequence
from typing import Literal

from ..broker import QueueSpec
from ..serialization import prepare_accept_content
from ._plans import ConsumerPlan, HandlerPlan, Key
from .errors import FleetMistake
from .policy import Batch, Retry

CONCURRENCY_MAX = 10_000
"""Tasks: what one process can keep busy at all."""
PREFETCH_MAX = 0xFFFF
"""What AMQP can say."""
LANES_PREFETCH = 100
"""Messages ahead at least, so that busy keys don't hide the others."""
NAME_MAX = 255
"""Bytes of a queue's name in AMQP."""


def check_name(name: object) -> None:
    """Raise ``FleetMistake`` unless a fleet may be called that."""
    if not isinstance(name, str) or not name or len(name.encode()) > 100:
        raise FleetMistake(f"a fleet's name is a text of up to 100 bytes, for the broker's operator, not {name!r:.120}")


def check_seconds(name: str, value: object, *, least: float) -> float:
    """The number; ``FleetMistake`` unless it is one."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < least:
        raise FleetMistake(f"{name} is a number of seconds from {least:g} on, not {value!r:.80}")
    return float(value)


def check_count(name: str, value: object, most: int) -> int:
    """The number; ``FleetMistake`` unless it is one from 1 on."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise FleetMistake(f"{name} is a whole number from 1 to {most}, not {value!r:.80}")
    return value


def check_retry(name: str, value: object) -> None:
    """Raise ``FleetMistake`` unless it is a ``Retry``."""
    if not isinstance(value, Retry):
        raise FleetMistake(f"{name} is a Retry(delays=...), not {value!r:.80}")


def check_middleware(function: object) -> None:
    """Raise ``FleetMistake`` unless it can be called with a message and ``call_next``."""
    if not inspect.iscoroutinefunction(function):
        raise FleetMistake(f"middleware is an async function of a message and call_next, not {function!r:.120}")
    try:
        inspect.signature(function).bind(None, None)
    except TypeError as error:
        name = function.__qualname__
        raise FleetMistake(f"middleware {name} is called with a message and call_next: {error}") from None


def check_consumers(consumers: Sequence[ConsumerPlan]) -> None:
    """Raise ``FleetMistake`` when these can't live together."""
    first: dict[str, ConsumerPlan] = {}
    for plan in consumers:
        other = first.setdefault(plan.name, plan)
        if other.dead_letter != plan.dead_letter:
            raise FleetMistake(
                f"two consumers of queue {plan.name!r} name different dead letters: {other.dead_letter!r} "
                f"({other.handler.name}) and {plan.dead_letter!r} ({plan.handler.name}); a queue has one such queue"
            )
        if other.declare and plan.declare and other.queue != plan.queue:
            raise FleetMistake(f"two consumers declare queue {plan.name!r} differently: give both the same QueueSpec")


def plan_consumer(
    queue: str | QueueSpec,
    handler: HandlerPlan,
    *,
    lane: Key | None,
    retry: Retry,
    concurrency: int,
    timeout: float | None,
    on_error: Literal["pass", "block"],
    batch: Batch | None,
    dead_letter: str | None,
    fail_fast: int | None,
    prefetch: int | None,
    deaf_after: float | None,
    accept: Collection[str] | None,
) -> ConsumerPlan:
    """The plan of one consumer; see ``Fleet.consumer``."""
    spec = _queue(queue)
    where = f"consumer of queue {spec.name!r}"
    if dead_letter is None:
        dead_letter = f"{spec.name}.dead"
    _check_queue_name(f"{where}: dead_letter", dead_letter)
    if dead_letter == spec.name:
        raise FleetMistake(f"{where}: its dead letters would come back to it at once; name another queue for them")
    check_count(f"{where}: concurrency", concurrency, CONCURRENCY_MAX)
    if timeout is not None and check_seconds(f"{where}: timeout", timeout, least=0.0) == 0:
        raise FleetMistake(f"{where}: timeout is above 0 seconds, or None for no limit")
    check_retry(f"{where}: retry", retry)
    if on_error not in ("pass", "block"):
        raise FleetMistake(f'{where}: on_error is "pass" or "block", not {on_error!r:.80}')
    if on_error == "block" and lane is None:
        raise FleetMistake(f'{where}: on_error="block" keeps a key\'s messages waiting, so it needs a key=')
    if batch is not None and not isinstance(batch, Batch):
        raise FleetMistake(f"{where}: batch is a Batch(size=..., within=...), not {batch!r:.80}")
    if fail_fast is not None:
        check_count(f"{where}: fail_fast", fail_fast, 1_000_000)
    return ConsumerPlan(
        queue=spec,
        declare=isinstance(queue, QueueSpec),
        dead_letter=dead_letter,
        handler=handler,
        retry=retry,
        concurrency=concurrency,
        prefetch=_prefetch(where, prefetch, concurrency, batch, keyed=lane is not None, blocks=on_error == "block"),
        timeout=None if timeout is None else float(timeout),
        key=lane,
        on_error=on_error,
        batch=batch,
        fail_fast=fail_fast,
        deaf_after=None if deaf_after is None else check_seconds(f"{where}: deaf_after", deaf_after, least=0.0),
        accept=_accept(where, accept),
    )


def _queue(queue: object) -> QueueSpec:
    if isinstance(queue, QueueSpec):
        _check_queue_name("@fleet.consumer(QueueSpec(...))", queue.name)
        return queue
    if not isinstance(queue, str):
        raise FleetMistake(f'@fleet.consumer("orders") takes a queue\'s name, or a QueueSpec, not {queue!r:.80}')
    _check_queue_name("@fleet.consumer(queue)", queue)
    return QueueSpec(name=queue)


def _check_queue_name(where: str, name: object) -> None:
    if not isinstance(name, str) or not name or len(name.encode(errors="replace")) > NAME_MAX:
        raise FleetMistake(f"{where}: a queue's name is a text of 1 to {NAME_MAX} bytes, not {name!r:.80}")


def _prefetch(
    where: str, given: int | None, concurrency: int, batch: Batch | None, *, keyed: bool, blocks: bool
) -> int:
    size = 1 if batch is None else batch.size
    if given is not None:
        check_count(f"{where}: prefetch", given, PREFETCH_MAX)
        if given < concurrency * size:
            raise FleetMistake(
                f"{where}: prefetch={given} is less than its handlers hold at once ({concurrency * size}): "
                "they would wait for messages that never come"
            )
        return given
    if concurrency * size > PREFETCH_MAX:
        raise FleetMistake(
            f"{where}: {concurrency} batches of {size} are more messages at once than AMQP's prefetch can say "
            f"({PREFETCH_MAX})"
        )
    wanted = max(2 * concurrency * size, LANES_PREFETCH if keyed else 0) * (2 if blocks else 1)
    return min(wanted, PREFETCH_MAX)


def _accept(where: str, accept: Collection[str] | None) -> Collection[str] | None:
    if accept is None:
        return None
    if isinstance(accept, str):
        raise FleetMistake(f'{where}: accept is a list of serializers, ["{accept}"], not a text')
    try:
        prepare_accept_content(accept)
    except Exception as error:
        raise FleetMistake(f"{where}: accept: {error}") from error
    return tuple(accept)
