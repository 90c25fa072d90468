"""What becomes of a message in each case, in words; and where two settings don't go together.  Pure."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence

from ._plans import ConsumerPlan
from ._schedule import Cron, Every, Job, Schedule

__all__ = ["explain"]

CONSUMER_TIMEOUT = 30 * 60.0
"""Seconds that a consumer may keep a message unsettled before RabbitMQ closes its channel, unless told otherwise."""
GRACE_PERIOD = 30.0
"""Seconds that Kubernetes and Docker give a process between TERM and KILL: 30 and 10 unless told otherwise."""
_WIDTH = 100
_UNITS = ((24 * 3600, "d"), (3600, "h"), (60, "min"))


def explain(
    fleet_name: str, consumers: Sequence[ConsumerPlan], *, jobs: Sequence[Job] = (), drain_timeout: float
) -> str:
    """The text for all consumers and jobs of a fleet; lines that begin with ``!`` tell what was probably not meant."""
    blocks = [_wrapped(_of_fleet(fleet_name, consumers, drain_timeout), "")]
    for plan in consumers:
        lines = [*_of_consumer(plan), *_of_limits(plan, drain_timeout)]
        lines += [f"! {problem}" for problem in _problems(plan)]
        blocks.append(f"{plan.name}\n{_wrapped(lines, '  ')}")
    if jobs:
        blocks.append(f"periodic jobs\n{_wrapped(_of_jobs(fleet_name, jobs), '  ')}")
    return "\n\n".join(blocks)


def _wrapped(lines: Sequence[str] | Iterator[str], indent: str) -> str:
    return "\n".join(
        textwrap.fill(line, _WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ", break_on_hyphens=False)
        for line in lines
    )


def duration(seconds: float) -> str:
    """``10 min``, ``1.5 s``, ``11 min 11 s``: the two largest units."""
    parts: list[str] = []
    rest = seconds
    for size, unit in _UNITS:
        number, rest = divmod(rest, size)
        if number:
            parts.append(f"{number:g} {unit}")
    if rest or not parts:
        parts.append(f"{rest:g} s")
    return " ".join(parts[:2])


def _of_fleet(name: str, consumers: Sequence[ConsumerPlan], drain_timeout: float) -> Iterator[str]:
    yield f"Fleet {name!r}: {len(consumers)} consumer{'s' * (len(consumers) != 1)}."
    limit = duration(drain_timeout)
    yield (
        "At TERM, INT or a cancellation the broker is told to send nothing more, what no handler has begun goes back"
        f" into its queue, and handlers have {limit} to finish; those that have not are cancelled, and their messages"
        " go back, which is no attempt."
    )
    if drain_timeout >= GRACE_PERIOD:
        yield (
            f"! Kubernetes kills a process {duration(GRACE_PERIOD)} after TERM, Docker after 10 s: give this one more"
            f" than {limit} there (terminationGracePeriodSeconds, stop_grace_period)."
        )


def _of_consumer(plan: ConsumerPlan) -> Iterator[str]:
    handler = plan.handler
    calls = "call" if plan.concurrency == 1 else "calls"
    where = "in trio" if handler.is_async else "in a worker thread"
    limit = "without a limit" if plan.timeout is None else f"of up to {duration(plan.timeout)}"
    what = f"{handler.name} runs {where}, {plan.concurrency} {calls} {limit} at once"
    if plan.batch is not None:
        what += f", each with up to {plan.batch.size} messages: those that came within {duration(plan.batch.within)}"
    yield f"{what}. The broker sends up to {plan.prefetch} messages ahead."
    if handler.resources:
        names = ", ".join(resource.__name__ for resource in handler.resources)
        yield f"When {names} fails, its calls are cancelled and their messages go back, which is no attempt."
    if plan.key is not None:
        rest = (
            "those behind a message that is tried again wait for it, unacked"
            if plan.on_error == "block"
            else "those behind a message that is tried again go on meanwhile"
        )
        yield f"Messages of one key are handled one after the other, in order; {rest}."
    yield "It returns: the message is acked, and what message.publish sent was confirmed before."
    if handler.replies:
        yield (
            "Somebody asked (reply_to): what it returns is the answer. When it raises, the error is, at once: it is not"
            " tried again, and not dead-lettered."
        )
    yield from _of_failures(plan)
    yield "The process or its connection is lost: the broker delivers the message again, which is no attempt."


def _of_jobs(name: str, jobs: Sequence[Job]) -> Iterator[str]:
    for job in jobs:
        yield f"{job.name} runs {_when(job.schedule)}."
    yield (
        f"One process of all fleets named {name!r} runs them; when it is gone, another one does. A moment that comes"
        " while the last call runs is left out; those that nobody was there for are made up for by one call. One that"
        " raises is logged, and the next moment is its next chance; one that is killed is made again."
    )


def _when(schedule: Schedule) -> str:
    match schedule:
        case Every(seconds):
            return f"every {duration(seconds)}"
        case Cron(expression, timezone):
            return f"at {expression!r} (cron, {timezone})"
    return str(schedule)


def _of_failures(plan: ConsumerPlan) -> Iterator[str]:
    raises = "It raises" if plan.timeout is None else f"It raises, or takes longer than {duration(plan.timeout)}"
    if plan.batch is not None:
        raises += " (all of the batch), or calls message.fail (that message)"
    delays = plan.retry.delays
    dead = f"goes to queue {plan.dead_letter!r}"
    if not delays:
        yield f"{raises}: the message {dead}."
    else:
        after = ", ".join(map(duration, delays))
        how = "in this process, keeping its lane" if plan.on_error == "block" else "from a queue of the broker's"
        yield (
            f"{raises}: the message is tried again after {after}, {how}; when attempt {len(delays) + 1} fails, some"
            f" {duration(plan.retry.total)} after the first, it {dead}."
        )
    at_once = [error.__name__ for error in plan.retry.give_up_on]
    yield f"It raises {' or '.join(['Reject', *at_once])}, or the payload can't be decoded: the message {dead} at once."
    yield "It raises Snooze: the message comes again then, which is no attempt."
    if plan.fail_fast is not None:
        yield f"After {plan.fail_fast} failures in a row one message at a time is tried, until one succeeds."


def _of_limits(plan: ConsumerPlan, drain_timeout: float) -> Iterator[str]:
    timeout = plan.timeout
    if timeout is not None and not plan.handler.is_async:
        yield (
            "A call in a thread can't be cancelled: one that takes too long is reported as STUCK and runs on while its"
            " message is tried again, so there can be two at once."
        )
    elif timeout is not None and timeout > drain_timeout:
        yield f"A drain waits {duration(drain_timeout)}: a call that takes longer is cut short, and begins anew."


def _problems(plan: ConsumerPlan) -> Iterator[str]:
    if plan.timeout is None:
        yield "Without a timeout a call that hangs keeps its slot and its message until the process ends."
    held = _held(plan)
    if held > CONSUMER_TIMEOUT:
        yield (
            f"A message can be held for {duration(held)} before it is settled, but RabbitMQ closes the channel after"
            f" {duration(CONSUMER_TIMEOUT)} (consumer_timeout), and delivers it again."
        )
    yield from _queue_problems(plan)


def _held(plan: ConsumerPlan) -> float:
    """Seconds that a message may stay unacked."""
    once = (plan.timeout or 0.0) + (plan.batch.within if plan.batch is not None else 0.0)
    if plan.on_error == "block":
        return plan.retry.total + once * (len(plan.retry.delays) + 1)
    return once


def _queue_problems(plan: ConsumerPlan) -> Iterator[str]:
    """What a queue is known to be, when the program declares it."""
    queue, delays = plan.queue, plan.retry.delays
    if not plan.declare or not delays or plan.on_error == "block":
        return
    ttl, expires = (_seconds(queue.arguments.get(name)) for name in ("x-message-ttl", "x-expires"))
    if plan.retry.total > ttl:
        yield (
            f"Messages of this queue expire after {duration(ttl)}, but one that is tried again counts anew, and can be"
            f" handled {duration(plan.retry.total)} later."
        )
    longest = max(delays)
    if longest >= expires:
        yield (
            f"The queue goes after {duration(expires)} without a consumer: a message that waits {duration(longest)} for"
            " its next attempt is lost then."
        )
    if queue.auto_delete or queue.exclusive or not queue.durable:
        yield "The queue goes with its consumer or its broker: a message that waits for its next attempt is lost then."


def _seconds(milliseconds: object) -> float:
    return milliseconds / 1000 if isinstance(milliseconds, int) else math.inf
