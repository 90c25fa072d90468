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
from kombu_actors.errors import BrokerUnreachable, InvalidURL
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
    """Perform, print the account, and return the exit status."""
    account = Account(chosen.messages)
    journal = Journal(tell=print if chosen.plain else lambda line: None)
    faults: list[Fault] = []
    ending = ""
    try:
        with trio.move_on_after(chosen.deadline) as limit:
            async with trio.open_nursery() as nursery:

                async def stop_on_signal() -> None:
                    nonlocal ending
                    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                        async for number in signals:
                            ending = f"stopped by {signal.Signals(number).name}"
                            limit.cancel()

                nursery.start_soon(stop_on_signal)
                await perform(chosen, account, journal, faults)
                nursery.cancel_scope.cancel()
        if limit.cancelled_caught and not ending:
            ending = f"not complete after {chosen.deadline:g} s"
    except* (BrokerUnreachable, InvalidURL) as group:
        ending = str(leaves(group)[0])
    print(statement(account, journal, faults))
    return verdict(account, ending)


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
    return "\n".join(f"{name:>12}  {number:>7}  {remark}" for name, number, remark in rows)


def verdict(account: Account, ending: str) -> int:
    """Say how it ended; 0 when every message was confirmed and handled."""
    if ending:
        missing = sorted(account.lost)
        print(f"{ending}; {len(missing)} confirmed messages were still to be handled: {_some(missing)}")
        return 1
    if account.lost or account.strangers:
        print(f"LOST {_some(sorted(account.lost))}; NEVER PUBLISHED {_some(sorted(account.strangers))}")
        return 1
    print("nothing was lost")
    return 0


def _some(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:10])) or "none"
    return shown + (", ..." if len(numbers) > 10 else "")


if __name__ == "__main__":
    chosen = options()
    chosen.plain = chosen.plain or not sys.stdout.isatty()
    # The supervisors' events are shown already; their log would say the same again, across the picture.
    logging.getLogger("kombu_actors").addHandler(logging.NullHandler())
    raise SystemExit(trio.run(main, chosen))
