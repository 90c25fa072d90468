"""What is measured, on whom, and what we want to reach."""

from __future__ import annotations

from enum import Enum

import attrs

PREFETCH = 200
"""Unacknowledged messages per consumer, the same for everyone."""
CONCURRENCY = 100
"""Tasks that publish at the same time in the cases of the event loops, the same for everyone."""

FLEET_CONCURRENCY = 50
"""Handlers at once in the cases of consumer fleets."""

PAUSE = 0.002
"""Seconds between two messages where one is sent at a time: the broker has finished with the last one."""


class Start(Enum):
    """What the queue holds when a run begins, and so what it must hold when the run has ended."""

    EMPTY = "empty"  # and all messages in the end
    FULL = "full"  # and nothing in the end
    PRIVATE = "private"  # the run takes what it has put in


class Broker(Enum):
    """Who carries the messages."""

    RABBITMQ = "RabbitMQ"
    REDIS = "Redis"
    NONE = "none"  # they stay within the process


@attrs.frozen
class Task:
    """One run: where, and how many messages, of which ``warm_up`` come before measuring."""

    url: str
    queue: str
    messages: int
    warm_up: int
    size: int = 1
    """How many there are of what the case is about: consumers, threads, channels."""


@attrs.frozen
class Contender:
    """Whom a case measures: a library, and what runs it (``benchmarks.<module>:<function>``)."""

    name: str
    program: str
    library: str
    """Imported, and handed to the program when that serves several libraries with one API."""


@attrs.frozen
class Goal:
    """A bound on the ratio of our median to the yardstick's; without one the ratio is for information."""

    metric: str
    bound: float | None = None
    at_least: bool = False
    of_ours: bool = False
    """The bound is on our median itself."""
    of_one: bool = False
    """The bound is on the ratio of our median with the most to ours with the fewest: what many cost beside one."""

    def judge(self, figure: float) -> str:
        """Say whether a ratio, or our figure, is within the bound."""
        if self.bound is None:
            return "no goal"
        met = figure >= self.bound if self.at_least else figure <= self.bound
        return f"goal {'>=' if self.at_least else '<='} {self.bound:.2f}: {'ok' if met else 'NOT OK'}"


@attrs.frozen(kw_only=True)
class Case:
    """One task for the yardstick, which is the first contender, and for ours, the last; others are there to be seen."""

    name: str
    title: str
    contenders: tuple[Contender, ...]
    start: Start
    messages: int
    goals: tuple[Goal, ...]
    broker: Broker = Broker.RABBITMQ
    lengthy: bool = False
    """``--quick`` leaves it out unless it is named: it takes its time however few the messages."""
    sizes: tuple[int, ...] = (1,)
    """How many consumers, threads or channels: each is a row, the goals are for the last."""

    def row(self, contender: Contender, size: int) -> str:
        """What a contender is called in the table."""
        return contender.name if len(self.sizes) == 1 else f"{contender.name} x {size:,}"


def _blocking(function: str) -> tuple[Contender, Contender]:
    program = f"blocking:{function}"
    return Contender("kombu", program, "kombu"), Contender("kombu_actors", program, "kombu_actors")


def _importing(function: str) -> tuple[Contender, Contender]:
    program = f"importing:{function}"
    return Contender("kombu", program, "kombu"), Contender("kombu_actors", program, "kombu_actors")


def _many(function: str) -> tuple[Contender, Contender]:
    program = f"many:{function}"
    return Contender("kombu", program, "kombu"), Contender("kombu_actors", program, "kombu_actors")


def _looping(function: str) -> tuple[Contender, Contender]:
    return (
        Contender("aio-pika", f"on_asyncio:{function}", "aio_pika"),
        Contender("kombu_actors.broker", f"on_trio:{function}", "kombu_actors"),
    )


def _in_asyncio(function: str) -> tuple[Contender, ...]:
    aio_pika, native = _looping(function)
    uvloop = Contender("kombu_actors.aio, uvloop", f"on_aio:{function}_on_uvloop", "kombu_actors")
    return native, aio_pika, uvloop, Contender("kombu_actors.aio", f"on_aio:{function}", "kombu_actors")


CURVE = (1, 10, 100, 1_000)
MANY_GOALS = (
    Goal("cpu", 1.2, of_one=True),
    Goal("subscribed", 2.0, of_ours=True),
    Goal("restored", 2.0, of_ours=True),
    Goal("memory", 20.0, of_ours=True),
)

CASES = (
    Case(
        name="publish",
        title="publish persistent messages; ours until all are confirmed, kombu's unconfirmed (both by default)",
        contenders=_blocking("publish"),
        start=Start.EMPTY,
        messages=15_000,
        goals=(Goal("cpu", 0.40),),
    ),
    Case(
        name="publish-confirmed",
        title="the same with confirm_publish=True: each call returns when its message is confirmed",
        contenders=_blocking("publish_confirmed"),
        start=Start.EMPTY,
        messages=1_000,
        goals=(Goal("cpu"), Goal("rate", 1.0, at_least=True)),
    ),
    Case(
        name="consume",
        title=f"consume, decode and acknowledge, prefetch {PREFETCH}",
        contenders=_blocking("consume"),
        start=Start.FULL,
        messages=15_000,
        goals=(Goal("cpu", 0.35), Goal("rate", 1.7, at_least=True)),
    ),
    Case(
        name="latency",
        title="publish to receipt of one message at a time, over one connection; transient: no disk in the way",
        contenders=_blocking("latency"),
        start=Start.PRIVATE,
        messages=1_000,
        goals=(Goal("p50", 1.0),),
    ),
    Case(
        name="latency-persistent",
        title=f"the same, persistent, one every {PAUSE * 1e3:.0f} ms: the broker is done with the last one",
        contenders=_blocking("latency_persistent"),
        start=Start.PRIVATE,
        messages=600,
        goals=(Goal("p50", 1.0),),
    ),
    Case(
        name="latency-confirms",
        title="the same, and kombu's channel is in confirm mode as ours always is; neither waits for confirms",
        contenders=(
            Contender("kombu", "blocking:latency_confirms", "kombu"),
            Contender("kombu_actors", "blocking:latency_persistent", "kombu_actors"),
        ),
        start=Start.PRIVATE,
        messages=600,
        goals=(Goal("p50"),),
    ),
    Case(
        name="ping-pong",
        title="latency-persistent without the pause: ours asks for confirms, so each message meets the last one's sync",
        contenders=_blocking("ping_pong"),
        start=Start.PRIVATE,
        messages=600,
        goals=(Goal("p50"),),
    ),
    Case(
        name="loop-publish",
        title=f"await publish until confirmed, {CONCURRENCY} tasks at a time",
        contenders=_looping("publish"),
        start=Start.EMPTY,
        messages=15_000,
        goals=(Goal("cpu", 0.25),),
    ),
    Case(
        name="loop-consume",
        title=f"async for over a queue: decode and acknowledge, prefetch {PREFETCH}",
        contenders=_looping("consume"),
        start=Start.FULL,
        messages=15_000,
        goals=(Goal("cpu", 0.25),),
    ),
    Case(
        name="fleet",
        title=f"a handler that does nothing, {FLEET_CONCURRENCY} at once, beside the bare loop of a subscription",
        contenders=(
            Contender("bare loop", "on_trio:consume", "kombu_actors"),
            Contender("Fleet", "on_fleet:consume", "kombu_actors"),
        ),
        start=Start.FULL,
        messages=15_000,
        goals=(Goal("cpu", 2.5),),
    ),
    Case(
        name="fleet-faststream",
        title=f"the same beside FastStream; {2 * FLEET_CONCURRENCY} messages ahead",
        contenders=(
            Contender("FastStream", "on_fleet:faststream", "faststream"),
            Contender("Fleet", "on_fleet:consume", "kombu_actors"),
        ),
        start=Start.FULL,
        messages=15_000,
        goals=(Goal("cpu", 0.25),),
    ),
    Case(
        name="aio-publish",
        title="loop-publish from asyncio, beside the same program in trio",
        contenders=_in_asyncio("publish"),
        start=Start.EMPTY,
        messages=15_000,
        goals=(Goal("cpu", 1.5),),
    ),
    Case(
        name="aio-consume",
        title="loop-consume from asyncio, beside the same program in trio",
        contenders=_in_asyncio("consume"),
        start=Start.FULL,
        messages=15_000,
        goals=(Goal("cpu", 1.5),),
    ),
    Case(
        name="many-consumers",
        title=f"consumers with a channel and a queue each, prefetch {PREFETCH}; then the connection is lost",
        contenders=_many("consumers"),
        start=Start.PRIVATE,
        messages=10_000,
        goals=MANY_GOALS,
        lengthy=True,
        sizes=CURVE,
    ),
    Case(
        name="loop-many-consumers",
        title="the same in one event loop, a task for each",
        contenders=_looping("many_consumers"),
        start=Start.PRIVATE,
        messages=10_000,
        goals=MANY_GOALS,
        lengthy=True,
        sizes=CURVE,
    ),
    Case(
        name="many-threads",
        title="threads that publish with one Producer; kombu's, which threads must not share, is behind a lock",
        contenders=_many("threads"),
        start=Start.EMPTY,
        messages=15_000,
        goals=(Goal("cpu"), Goal("rate"), Goal("cpu", of_one=True)),
        sizes=(1, 8, 32),
    ),
    Case(
        name="many-channels",
        title="channels that publish in turn, with a Producer each",
        contenders=_many("channels"),
        start=Start.EMPTY,
        messages=10_000,
        goals=(Goal("cpu"), Goal("subscribed"), Goal("memory"), Goal("cpu", of_one=True)),
        lengthy=True,
        sizes=(1, 100, 2_000),
    ),
    Case(
        name="memory",
        title="publish, then consume and acknowledge within the process (memory://); for information",
        contenders=_blocking("memory"),
        start=Start.PRIVATE,
        messages=10_000,
        goals=(Goal("cpu"),),
        broker=Broker.NONE,
    ),
    Case(
        name="import",
        title="import the package, in a fresh process for each message",
        contenders=_importing("package"),
        start=Start.PRIVATE,
        messages=5,
        goals=(Goal("cpu", 1.0),),
        broker=Broker.NONE,
    ),
    Case(
        name="import-names",
        title="the same, and the six names that most programs use",
        contenders=_importing("names"),
        start=Start.PRIVATE,
        messages=5,
        goals=(Goal("cpu", 1.0),),
        broker=Broker.NONE,
    ),
    Case(
        name="import-connect",
        title="the same, and connect to the broker",
        contenders=_importing("connecting"),
        start=Start.PRIVATE,
        messages=5,
        goals=(Goal("cpu", 1.5),),
    ),
)
