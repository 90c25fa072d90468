"""The long form, from the command line."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import traceback
from functools import partial
from pathlib import Path

import trio

from tests.support.brokers import RabbitMQNode, RedisNode

from .faults import BETWEEN
from .play import Terms, play
from .striking import Node


def started(transport: str, base: Path) -> Node:
    """A broker that keeps what it has confirmed, whatever happens to it."""
    node: Node = RabbitMQNode(base) if transport == "amqp" else RedisNode(base, durable=True)
    node.start()
    return node


def main() -> int:
    """All soaks; 1 when one failed."""
    parser = argparse.ArgumentParser(prog="python -m soak.fleet_soak")
    parser.add_argument("--transport", choices=("amqp", "redis"), action="append")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=500.0)
    parser.add_argument("-p", "--processes", type=int, default=4)
    parser.add_argument(
        "--between", type=float, nargs=2, default=BETWEEN, help="seconds between two faults, from and to"
    )
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)  # what goes wrong here is meant to
    report, status = [], 0
    terms = Terms(
        seconds=chosen.seconds,
        rate=chosen.rate,
        processes=chosen.processes,
        between=tuple(chosen.between),
        say=partial(print, flush=True),
    )
    for transport in chosen.transport or ("amqp", "redis"):
        with tempfile.TemporaryDirectory(prefix="ka-") as name:
            node, diaries = started(transport, Path(name) / "node"), Path(name) / "diaries"
            diaries.mkdir()
            try:
                soak = trio.run(partial(play, node, chosen.seed, diaries, terms))
                report.append(f"{transport}, seed {chosen.seed}: right: {soak}")
            except Exception as error:
                status = 1
                traceback.print_exception(error)
                report.append(f"{transport}, seed {chosen.seed}: FAILED: {error}")
            finally:
                if isinstance(node, RabbitMQNode):
                    node.close()
                elif node.running:
                    node.kill9()
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print("\n".join(report) + f"\nload {load}")
    return status


if __name__ == "__main__":
    sys.exit(main())
