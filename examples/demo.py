"""The main job, watchable: no message is lost, whatever breaks.

    python examples/demo.py                          # the broker is in this process
    python examples/demo.py --url amqp://localhost   # a RabbitMQ of yours

A producer publishes numbered messages; a fleet of supervised handlers works them off.  Meanwhile
handlers crash, the broker closes channels and the connection is cut, again and again.  At the end
the account: every message that the broker confirmed was handled.  The exit status is 0 only then.

The job, which is the part to copy, is in ``_demo_job.py``; what breaks it in ``_demo_faults.py`` and
``_demo_relay.py``; how it is watched in ``_demo_view.py``.
"""

from __future__ import annotations

import argparse
import logging
import random
import signal
import sys
from uuid import uuid4

import trio
from _demo_faults import Fault, Saboteur, plan_faults
from _demo_job import Account, Job
from _demo_relay import breakable
from _demo_view import Journal, show_live, show_plain

from kombu_actors.broker import QueueSpec, open_broker
from kombu_actors.exceptions import ChannelError, ConnectionError, KombuError
from kombu_actors.supervisors import leaves, open_supervisor

BUSY = 0.6
"""Share of their time that the handlers work: below 1, or they would never catch up after a fault."""
QUEUE_EXPIRES = 60_000
"""Milliseconds after which a broker forgets the queue of a demonstration that was killed."""


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--url", default=f"memory://demo-{uuid4().hex[:8]}", help="default: a broker in this process")
    parser.add_argument("--messages", type=int, default=5000, help="how many to publish (%(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="time over which they are published (%(default)s)")
    parser.add_argument("--consumers", type=int, default=4, help="size of the fleet (%(default)s)")
    parser.add_argument("--faults", type=int, default=15, help="how many, a third of each kind (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the plan of faults (%(default)s)")
    parser.add_argument("--deadline", type=float, default=120.0, help="seconds for everything (%(default)s)")
    parser.add_argument("--plain", action="store_true", help="lines instead of a picture; always without a terminal")
    chosen = parser.parse_args(arguments)
    for name in ("messages", "consumers", "seconds", "deadline"):
        if getattr(chosen, name) <= 0:
            parser.error(f"--{name} must be more than 0")
    return chosen


async def perform(chosen: argparse.Namespace, account: Account, journal: Journal, faults: list[Fault]) -> None:
    """Run the job until the account is complete, with everything that goes wrong."""
    queue = f"demo-{uuid4().hex[:8]}"
    rate = chosen.messages / chosen.seconds
    rng = random.Random(chosen.seed)
    async with breakable(chosen.url) as (url, cut), open_broker(url, listener=journal.hear) as broker:
        saboteur = Saboteur(cut=cut, tell=journal.note, done=faults)
        job = Job(
            broker=broker,
            queue=queue,
            account=account,
            rate=rate,
            handlers=chosen.consumers,
            work=BUSY * chosen.consumers / rate,
            before_ack=saboteur.before_ack,
        )
        await broker.declare(QueueSpec(name=queue, arguments={"x-expires": QUEUE_EXPIRES}))
        async with open_supervisor(job.spec(), listener=journal.hear) as fleet, trio.open_nursery() as nursery:
            show = show_plain if chosen.plain else show_live
            nursery.start_soon(show, account, journal, lambda: (broker.snapshot(), fleet.snapshot()))
            nursery.start_soon(saboteur.run, plan_faults(chosen.faults, chosen.seconds, rng))
            await account.complete.wait()
            nursery.cancel_scope.cancel()
        await broker.delete_queue(queue)


async def main(chosen: argparse.Namespace) -> int:
    """Perform, print the account, and return the exit status: 0 when nothing was lost."""
    account = Account(chosen.messages)
    journal = Journal(tell=print if chosen.plain else lambda line: None)
    faults: list[Fault] = []
    stopped_by: list[str] = []
    with trio.move_on_after(chosen.deadline) as limit:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop_on_signal, limit, stopped_by)
            await perform(chosen, account, journal, faults)
            nursery.cancel_scope.cancel()
    print(statement(account, journal, faults))
    if not limit.cancelled_caught:
        print("nothing was lost")
        return 0
    ending = f"stopped by {stopped_by[0]}" if stopped_by else f"not complete after {chosen.deadline:g} s"
    unconfirmed = set(range(account.total)) - account.confirmed
    print(f"{ending}; not confirmed: {_some(unconfirmed)}; confirmed and not handled: {_some(account.lost)}")
    return 1


async def stop_on_signal(limit: trio.CancelScope, stopped_by: list[str]) -> None:
    """Cancel everything at Ctrl-C or SIGTERM: it stops in order."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            stopped_by.append(signal.Signals(number).name)
            limit.cancel()


def statement(account: Account, journal: Journal, faults: list[Fault]) -> str:
    """The account, as people read it."""
    seconds = journal.elapsed
    kinds = ", ".join(f"{faults.count(fault)} x {fault.value}" for fault in Fault)
    restarts = ", ".join(f"{count} of {kind}" for kind, count in sorted(journal.restarts.items()))
    rows = (
        ("published", len(account.attempted), f"of {account.total}"),
        ("confirmed", len(account.confirmed), "by the broker"),
        ("handled", len(account.handled), "each counted once"),
        ("duplicates", account.duplicates, "delivered again after a fault, recognised by their number"),
        ("lost", len(account.lost), "confirmed and not handled"),
        ("faults", len(faults), kinds),
        ("restarts", journal.restarts.total(), restarts),
        ("seconds", round(seconds, 1), f"{len(account.handled) / seconds:.0f} messages/s"),
    )
    return "\n".join(f"{name:>12}  {number:>7}  {remark}".rstrip() for name, number, remark in rows)


def _some(numbers: set[int]) -> str:
    if not numbers:
        return "none"
    shown = ", ".join(map(str, sorted(numbers)[:5]))
    return f"{len(numbers)} ({shown}{', ...' if len(numbers) > 5 else ''})"


if __name__ == "__main__":
    chosen = options()
    chosen.plain = chosen.plain or not sys.stdout.isatty()
    # The supervisors' events are shown already; their log would say the same again, across the picture.
    logging.getLogger("kombu_actors").addHandler(logging.NullHandler())
    status = 1
    try:
        status = trio.run(main, chosen)
    except* (KombuError, ConnectionError, ChannelError) as group:  # no such broker, wrong password, ...
        print(leaves(group)[0], file=sys.stderr)
    raise SystemExit(status)
