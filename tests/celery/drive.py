"""``python -m tests.celery.drive``: one ground, its scenarios one after the other, a line of JSON for each.

A process of its own, because it is a Celery client on the same kombu as the worker.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .ground import Ground


def main() -> int:
    """Run; 1 when a scenario failed."""
    options = _options()
    if options.kombu == "ours":
        from kombu_actors.celery import install

        install()
    for part in ("tasks", "control", "faults"):  # they fill the table, in this order
        import_module(f"tests.celery.{part}")
    from .table import applicable

    failed = 0
    with _ground(options) as ground:
        for one in applicable(ground, lengthy=options.lengthy, names=options.scenarios):
            began = time.monotonic()
            why = ""
            try:
                one.story(ground, f"{one.name}{int(time.time() * 1000)}")
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt | SystemExit):
                    raise
                why = "".join(traceback.format_exception(error))[-3000:]
                failed += 1
            finally:
                ground.dismiss_guests()
            line = {"scenario": one.name, "ok": not why, "seconds": round(time.monotonic() - began, 2), "why": why}
            print(json.dumps(line), flush=True)
        if failed or options.verbose:
            print(ground.worker.output[-20_000:], file=sys.stderr)
    return int(bool(failed))


@contextmanager
def _ground(options: argparse.Namespace) -> Iterator[Ground]:
    from tests.support.brokers import RabbitMQNode, RedisNode

    from .ground import Ground

    directory = Path(tempfile.mkdtemp(prefix="ka-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        redis = RedisNode(directory / "redis", durable=True)
        redis.start()
        stack.callback(redis.stop)
        node: RabbitMQNode | RedisNode | None = redis
        port, vhost = redis.port, "/"
        if options.broker == "rabbitmq" and options.port:
            node, port, vhost = None, options.port, options.vhost
        elif options.broker == "rabbitmq":
            node = rabbitmq = RabbitMQNode(directory / "rabbitmq")
            rabbitmq.start()
            stack.callback(rabbitmq.close)
            port = rabbitmq.port
        scheme = "amqp://guest:guest@127.0.0.1" if options.broker == "rabbitmq" else "redis://127.0.0.1"
        path = vhost.replace("/", "%2F") if options.broker == "rabbitmq" else "0"
        ground = Ground(
            broker=options.broker,
            pool=options.pool,
            results=options.results,
            switched=options.kombu == "ours",
            directory=directory,
            broker_port=port,
            broker_url=lambda at: f"{scheme}:{at}/{path}",
            results_url=redis.url(db=1) if options.results == "redis" else "rpc://",
            node=node,
        )
        stack.callback(ground.close)
        ground.start()
        yield ground


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.celery.drive")
    parser.add_argument("--broker", choices=["rabbitmq", "redis"], default="redis")
    parser.add_argument("--pool", choices=["prefork", "threads", "solo", "gevent"], default="prefork")
    parser.add_argument("--results", choices=["redis", "rpc"], default="redis")
    parser.add_argument("--kombu", choices=["ours", "stock"], default="ours")
    parser.add_argument("--port", type=int, help="of a RabbitMQ that others use, too; default: one of its own")
    parser.add_argument("--vhost", default="/")
    parser.add_argument("--lengthy", action="store_true", help="those that take seconds, too")
    parser.add_argument("--verbose", action="store_true", help="the worker's log, even if nothing failed")
    parser.add_argument("scenarios", nargs="*", help="default: all that fit")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
