"""Carries a program out on a broker, and holds what happens against the model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import attrs

from kombu_actors import Connection, Consumer, Exchange, Producer, Queue, binding
from kombu_actors.common import Broadcast
from kombu_actors.errors import ConnectionClosed, OperationalError, StaleDelivery

from .model import Truth, World
from .peer import arguments_of, headers_of
from .plan import CHANNELS, PUBLISHED
from .realms import Realm
from .steps import (
    AddQueue,
    Bind,
    Binding,
    Cancel,
    Check,
    Consume,
    DeclareExchange,
    DeclareQueue,
    DeleteExchange,
    DeleteQueue,
    Fault,
    Harm,
    Kind,
    PeerReturns,
    Publish,
    RemoveQueue,
    Side,
    Step,
    Unbind,
)

__all__ = ["RECOVERY", "Outcome", "Violation", "run"]

RECOVERY = 5.0
"""Seconds from the end of the last fault until everything holds again: the promise."""
FIRST_PATIENCE, LAST_PATIENCE = 0.05, 0.8
"""Seconds that one round of probes is waited for before the next is sent; it doubles."""
NOWHERE = "nowhere"
"""An exchange that there isn't.  Of a publish to it the channel's next call may tell, at any time later."""
RETRY = {"max_retries": 40, "interval_start": 0.02, "interval_step": 0.02, "interval_max": 0.2}
"""How the program publishes: it waits for the session, as programs do."""


Round = tuple[set[tuple[str, str]], dict[str, tuple[set[str], str]]]
"""Probes: who must hear what, and who may hear each text, with how it was sent."""


class Violation(Exception):
    """What the model does not allow, in a sentence, and the kind of it in a word."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


@attrs.frozen(kw_only=True)
class Outcome:
    """How a program went."""

    failure: str | None
    kind: str | None
    """The failure's, in a word: two programs fail alike when it is the same."""
    faults: int
    recoveries: tuple[float, ...]
    """Seconds that each check took."""
    seconds: float


def run(realm: Realm, steps: Iterable[Step], *, within: float = RECOVERY) -> Outcome:
    """Carry the steps out; those that make no sense (any more) are passed over.

    ``within`` seconds all has to be well again.
    """
    began = time.monotonic()
    program = _Program(realm, within)
    failure = kind = None
    at = ""
    try:
        for number, step in enumerate(steps, 1):
            at = f"step {number} ({step})"
            if program.world.applies(step):
                program.carry_out(step)
    except Violation as violation:
        failure, kind = f"{at}: {violation}", violation.kind
    except Exception as error:
        failure, kind = f"{at}: {type(error).__name__}: {error}", type(error).__name__
    finally:
        program.close()
    if failure is None and program.unhandled is not None:
        failure, kind = program.unhandled, "unhandled"
    return Outcome(
        failure=failure,
        kind=kind,
        faults=program.faults,
        recoveries=tuple(program.recoveries),
        seconds=time.monotonic() - began,
    )


@attrs.define(eq=False)
class _Heard:
    """What consumers heard: (queue, text), and when there is more."""

    texts: set[tuple[str, str]] = attrs.Factory(set)
    more: threading.Condition = attrs.Factory(threading.Condition)

    def add(self, queue: str, text: str) -> None:
        with self.more:
            self.texts.add((queue, text))
            self.more.notify_all()

    def wait_one(self, wanted: list[set[tuple[str, str]]], timeout: float) -> int | None:
        """Wait until one of these was heard whole; says which, None when none was in time."""

        def heard() -> int | None:
            return next((index for index, texts in enumerate(wanted) if texts <= self.texts), None)

        with self.more:
            self.more.wait_for(lambda: heard() is not None, max(0.0, timeout))
            return heard()


class _Program:
    """The program under test, its peer, and who looks on."""

    def __init__(self, realm: Realm, within: float) -> None:
        self.realm = realm
        self.within = within
        self.world = World(realm.traits)
        self.faults = 0
        self.recoveries: list[float] = []
        self.unhandled: str | None = None
        self._heard = _Heard()
        self._owed: dict[str, set[str]] = {}
        self._published = 0
        self._round = 0
        self._disturbed = False
        self._mistaken: set[Any] = set()
        """Channels with a publish to nowhere that may be yet to be sent: in an outage it waits, and harms later."""
        self._healing: threading.Timer | None = None
        self._queues: dict[str, Any] = {}
        self._consumers: dict[str, Consumer] = {}
        self._labels: dict[str, str] = {}
        """The model's name of a queue by the tag of its consumer."""
        self._stopping = False
        self._ours: Connection = realm.connect()
        self._ours.ensure_connection(max_retries=3)
        self._channels = [self._ours.channel() for _ in range(CHANNELS)]
        self._producer = Producer(self._ours.default_channel)
        self._prober = realm.connect_directly()
        self._drainer = threading.Thread(target=self._drain, name="drainer", daemon=True)
        self._drainer.start()

    def close(self) -> None:
        """End everything; the program's last publishes have to leave."""
        self._wait_healed()
        self._stopping = True
        try:
            self._ours.release()
        except Exception as error:
            self.unhandled = f"release: {type(error).__name__}: {error}"
        self._drainer.join(RECOVERY)
        if self._drainer.is_alive():
            self.unhandled = "drain_events did not return when its connection was released"
        self.realm.peer.close()
        self._prober.release()

    def _drain(self) -> None:
        while not self._stopping:
            try:
                self._ours.drain_events(timeout=1)
            except TimeoutError:
                continue
            except self._ours.channel_errors:
                continue  # a refused publish, told once, as kombu does
            except ConnectionClosed:
                if not self._stopping:
                    raise
            except Exception as error:
                self.unhandled = f"drain_events: {type(error).__name__}: {error}"
                return

    # -- steps -----------------------------------------------------------------------------------------

    def carry_out(self, step: Step) -> None:
        """One step, on the broker and in the model."""
        if isinstance(step, Check):
            self._check()
        elif isinstance(step, Fault):
            self._suffer(step)
        elif isinstance(step, Publish):
            self._publish(step)
        elif isinstance(step, PeerReturns) or getattr(step, "side", Side.OURS) is Side.PEER:
            self._let_peer(step)
        else:
            self._forget_owed(step)
            self._insist(lambda: self._operate(step))
        self.world.apply(step)

    def _let_peer(self, step: Step) -> None:
        if isinstance(step, PeerReturns):
            self._wait_healed()
            time.sleep(step.seconds)  # that it is late is what is tested
        elif not isinstance(step, DeclareExchange | DeclareQueue):
            self._check()  # behind our back, and not in the middle of a recovery: that would be anybody's guess
        self._forget_owed(step)
        self.realm.peer.carry_out(step, self.world)
        self._disturbed = self._disturbed or isinstance(step, DeleteQueue | DeleteExchange)

    def _insist(self, operation: Callable[[], object]) -> None:
        """As a program does that has met a channel error: again, until a recovery should be over."""
        deadline = time.monotonic() + RECOVERY
        while True:
            try:
                operation()
            except (*self._ours.channel_errors, *self._ours.connection_errors) as error:
                told_late = f"exchange {NOWHERE!r}" in str(error)
                expected = told_late or (self._disturbed and isinstance(error, self._ours.channel_errors))
                if not expected or time.monotonic() > deadline:
                    raise
                time.sleep(0.0 if told_late else 0.05)
            else:
                return

    def _operate(self, step: Step) -> None:
        channel = self._channels[0]
        match step:
            case DeclareExchange(name=name):
                self._exchange(name, step)(channel).declare()
            case DeclareQueue(name=name):
                made = self._make_queue(step)(channel)
                made.declare()
                self._queues[name] = made
            case Bind(binding=wanted):
                tie = self._binding(wanted)
                tie.bind(self._queue(wanted.queue)(channel))
                self._note(wanted, tie)
            case Unbind(binding=wanted):
                tie = self._binding(wanted)
                tie.unbind(self._queue(wanted.queue)(channel))
                self._unnote(wanted)
            case DeleteQueue(name=name):
                self._queue(name)(channel).delete()
            case DeleteExchange(name=name):
                self._exchange(name)(channel).delete()
                for wanted in [tied for tied in self.world.ties if tied.exchange == name]:
                    self._unnote(wanted)
            case Consume(name=name, channel=number, queues=queues, no_ack=no_ack):
                consumer = Consumer(
                    self._channels[number],
                    [self._to_consume(queue) for queue in queues],
                    no_ack=no_ack,
                    on_message=self._hear,
                    tag_prefix=f"{name}.",
                )
                self._consumers[name] = consumer
                for queue, bound in zip(queues, consumer.queues, strict=True):
                    self._queues[queue] = bound
                self._consume(consumer, queues)
            case AddQueue(consumer=name, queue=queue):
                consumer = self._consumers[name]
                self._queues[queue] = consumer.add_queue(self._to_consume(queue))
                self._consume(consumer, (queue,))
            case RemoveQueue(consumer=name, queue=queue):
                self._consumers[name].cancel_by_queue(self._queues[queue])
            case Cancel(consumer=name):
                self._consumers[name].cancel()
            case _:
                raise ValueError(f"the program has no way to: {step}")

    def _exchange(self, name: str, made: DeclareExchange | None = None) -> Exchange:
        known = made or self.world.exchanges[name]
        side = made.side if made else self.world.exchanges[name].side
        return Exchange(name, type=known.type, durable=known.durable, no_declare=side is Side.PEER)

    def _binding(self, made: Binding) -> binding:
        kind = self.world.exchanges[made.exchange].type
        arguments = arguments_of(kind, made.key)
        return binding(self._exchange(made.exchange), "" if kind == "headers" else made.key, arguments, arguments)

    def _make_queue(self, step: DeclareQueue) -> Queue:
        kind = step.kind
        if kind is Kind.BROADCAST:
            return Broadcast(step.bindings[0].exchange)
        return Queue(
            "" if kind is Kind.SERVER_NAMED else step.name,
            durable=kind is Kind.DURABLE,
            exclusive=kind.is_exclusive,
            auto_delete=kind is Kind.AUTO_DELETE,
            bindings=[self._binding(made) for made in step.bindings],
        )

    def _queue(self, name: str) -> Queue:
        """The program's object; for a queue of the peer's it only names it."""
        queue: Queue = self._queues.setdefault(name, Queue(name, no_declare=True))
        return queue

    def _to_consume(self, name: str) -> Queue:
        state = self.world.queues[name]
        queue = self._queue(name)
        if state.kind is Kind.SERVER_NAMED:
            if not state.wished:
                return Queue("", durable=False, exclusive=True, bindings=list(queue.bindings))
            queue.no_declare = True  # RabbitMQ lets nobody declare a name of its own choice
        return queue

    def _note(self, made: Binding, tie: binding) -> None:
        """The program's own object knows what was bound later: declared again, it is bound again."""
        if not self.world.queues[made.queue].takes_note:
            return
        if not any(self._is(made, known) for known in self._queues[made.queue].bindings):
            self._queues[made.queue].bindings.add(tie)

    def _unnote(self, made: Binding) -> None:
        queue = self._queues.get(made.queue)
        if queue is None:
            return
        for known in [known for known in queue.bindings if self._is(made, known)]:
            queue.bindings.discard(known)
        if queue.exchange is not None and queue.exchange.name == made.exchange:
            queue.exchange = None  # a broadcast's own exchange has gone

    def _is(self, made: Binding, known: binding) -> bool:
        return known.declaration == self._binding(made).declaration

    def _consume(self, consumer: Consumer, queues: Iterable[str]) -> None:
        consumer.consume()
        for queue in queues:
            tag, _ = consumer._active[consumer._key(self._queues[queue])]
            self._labels[tag] = queue

    def _hear(self, message: Any) -> None:
        label = self._labels.get(message.delivery_info["consumer_tag"])
        while label is None:  # it came before consume() returned
            time.sleep(0.001)
            label = self._labels.get(message.delivery_info["consumer_tag"])
        text = message.payload
        if not message.acknowledged:
            try:
                message.ack()
            except StaleDelivery:
                return  # it comes again
        self._heard.add(label, text)

    # -- messages that must not be lost ---------------------------------------------------------------------

    def _publish(self, step: Publish) -> None:
        keepers = self.world.keeps(step.exchange, step.key)
        if step.side is Side.PEER and self._disturbed and step.exchange:
            keepers = set()  # the peer doesn't wait for our exchanges and bindings to be back
        kind = self.world.exchanges[step.exchange].type if step.exchange else "direct"
        for _ in range(step.count):
            self._published += 1
            text = f"m{self._published}"
            if step.side is Side.PEER:
                self.realm.peer.publish(step, self.world, text)
            else:
                self._insist(lambda text=text: self._accept(step, kind, text))  # type: ignore[misc]
            for queue in keepers:
                self._owed.setdefault(queue, set()).add(text)

    def _accept(self, step: Publish, kind: str, text: str) -> None:
        key = step.key
        if not step.exchange and self.world.queues[key].kind in (Kind.SERVER_NAMED, Kind.BROADCAST):
            key = self._queues[key].name
        self._producer.publish(
            text,
            exchange=step.exchange,
            routing_key=key,
            headers=headers_of(kind, step.key),
            retry=True,
            retry_policy=RETRY,
        )

    def _forget_owed(self, step: Step) -> None:
        """What a step may take away before it was consumed is owed no more."""
        match step:
            case Unbind(binding=made):
                self._owed.pop(made.queue, None)
            case DeleteQueue(name=name):
                self._owed.pop(name, None)
            case DeleteExchange(name=name):
                for made in self.world.ties:
                    if made.exchange == name:
                        self._owed.pop(made.queue, None)
            case Consume(queues=queues, no_ack=True):
                for queue in queues:
                    self._owed.pop(queue, None)
            case AddQueue(consumer=name, queue=queue):
                if self.world.consumers[name].no_ack:
                    self._owed.pop(queue, None)

    # -- faults --------------------------------------------------------------------------------------------

    def _suffer(self, fault: Fault) -> None:
        self._wait_healed()
        self.faults += 1
        self._disturbed = True
        channel = self._channels[fault.channel]
        if fault.harm is Harm.BAD_ACK:
            self._expect_error(lambda: channel.basic_ack(10**9))
        elif fault.harm is Harm.NO_EXCHANGE:
            self._mistaken.add(channel)
            self._expect_error(lambda: Producer(channel).publish("nobody's", exchange=NOWHERE, routing_key="x"))
        elif fault.harm is Harm.NO_QUEUE:
            self._expect_error(lambda: channel.queue_declare(queue="nowhere", passive=True))
        else:
            self.realm.harm(fault.harm)
            if fault.seconds:
                self._healing = threading.Timer(fault.seconds, self.realm.heal)
                self._healing.start()

    def _expect_error(self, mistake: Callable[[], object]) -> None:
        try:
            mistake()
        except (*self._ours.channel_errors, *self._ours.connection_errors):
            pass  # at once or later, or nothing was sent: there was no session

    def _wait_answered(self, deadline: float) -> None:
        """The last harm is over when the broker has answered the last publish to nowhere."""
        while any(channel._actor.publisher.under_way for channel in self._mistaken) and time.monotonic() < deadline:
            time.sleep(0.01)
        self._mistaken.clear()

    def _wait_healed(self) -> None:
        if self._healing is not None:
            self._healing.join()
            self._healing = None

    # -- the verdict ------------------------------------------------------------------------------------------

    def _check(self) -> None:
        self._wait_healed()
        began = time.monotonic()
        self._wait_answered(began + self.within)
        deadline = time.monotonic() + self.within
        patience = FIRST_PATIENCE
        rounds: list[Round] = []
        while True:
            rounds.append(self._probe())
            complete = self._heard.wait_one([sure for sure, _ in rounds], min(patience, deadline - time.monotonic()))
            if complete is not None:
                possible = rounds[complete][1]
                break
            if time.monotonic() >= deadline:
                deaf = self._never_heard(rounds)
                raise Violation("deaf", f"deaf after {self.within:g} s: {', '.join(deaf)}; {self._state()}")
            patience = min(2 * patience, LAST_PATIENCE)
        self._nobody_else_heard(possible)
        self._nothing_is_lost(deadline)
        self._broker_agrees(deadline)
        if self.unhandled is not None:
            raise Violation("unhandled", self.unhandled)
        self.recoveries.append(time.monotonic() - began)
        self._disturbed = False

    def _never_heard(self, rounds: list[Round]) -> list[str]:
        heard: dict[str, bool] = {}
        for sure, possible in rounds:
            for queue, text in sure:
                route = f"{queue} ({possible[text][1]})"
                heard[route] = heard.get(route, False) or (queue, text) in self._heard.texts
        return sorted(route for route, once in heard.items() if not once) or ["something in each round"]

    def _probe(self) -> Round:
        """Send a round; who must hear what, and who may hear each text (with where it went)."""
        self._round += 1
        sure: set[tuple[str, str]] = set()
        possible: dict[str, tuple[set[str], str]] = {}
        world = self.world
        for name, exchange in world.exchanges.items():
            if exchange.there is not Truth.YES:
                continue
            for key in (*PUBLISHED[exchange.type], "nobody's"):
                routed = world.routed(name, key)
                text = f"r{self._round} {name} {key}"
                self._send(text, name, "" if exchange.type == "headers" else key, headers_of(exchange.type, key))
                hearing = {queue: min(there, world.hears(queue)) for queue, there in routed.items()}
                sure |= {(queue, text) for queue, there in hearing.items() if there is Truth.YES}
                possible[text] = {queue for queue, there in hearing.items() if there}, f"by {name} {key!r}"
        for name, queue in world.queues.items():
            if queue.there is Truth.YES:
                text = f"r{self._round} {name}"
                self._send(text, "", self._actual_name(name), {})
                hears = world.hears(name)
                if hears is Truth.YES:
                    sure.add((name, text))
                possible[text] = {name} if hears else set(), "directly"
        return sure, possible

    def _actual_name(self, queue: str) -> str:
        """The name by which the broker knows it: the program's object follows a queue that the broker names."""
        name: str = self._queues[queue].name if queue in self._queues else queue
        return name

    def _send(self, text: str, exchange: str, key: str, headers: dict[str, str]) -> None:
        try:
            self._prober.Producer().publish(text, exchange=exchange, routing_key=key, headers=headers)
        except (*self._prober.connection_errors, *self._prober.channel_errors, OperationalError):
            # The broker is just coming back, or an exchange is: the next round finds it, or the check fails.
            self._prober.collect()

    def _nobody_else_heard(self, possible: dict[str, tuple[set[str], str]]) -> None:
        for queue, text in sorted(self._heard.texts):
            if text in possible and queue not in possible[text][0]:
                raise Violation("heard", f"{queue} heard what was published {possible[text][1]}, and should not")

    def _nothing_is_lost(self, deadline: float) -> None:
        owed = {
            (queue, text)
            for queue, texts in self._owed.items()
            for text in texts
            if self.world.hears(queue) is Truth.YES
        }
        if self._heard.wait_one([owed], deadline - time.monotonic()) is None:
            lost = sorted(owed - self._heard.texts)
            raise Violation("lost", f"accepted and not received: {lost[:10]}; {self._state()}")

    def _broker_agrees(self, deadline: float) -> None:
        """What was undone is not there, and each queue has the consumers it should have: no ghosts."""
        while (wrong := self._disagreement()) is not None:
            if time.monotonic() >= deadline:
                raise Violation("broker", wrong)
            time.sleep(0.02)  # the broker tells nobody

    def _disagreement(self) -> str | None:
        world = self.world
        queues, exchanges = self.realm.queues(), self.realm.exchanges()
        for name, exchange in world.exchanges.items():
            if exchange.there is Truth.NO and exchange.side is Side.OURS and name in exchanges:
                return f"exchange {name} was deleted and is there"
        for name, queue in world.queues.items():
            actual = self._actual_name(name)
            if queue.there is Truth.NO and actual in queues:
                return f"queue {name} ({actual}) was deleted, or went with its consumer, and is there"
            if queue.there is Truth.YES:
                if actual not in queues:
                    return f"queue {name} ({actual}) is not there"
                wanted = int(world.consumer_of(name) is not None)
                if queues[actual] not in (None, wanted) and world.hears(name) is not Truth.MAYBE:
                    return f"queue {name} ({actual}) has {queues[actual]} consumers, not {wanted}"
        return None

    def _state(self) -> str:
        if self._ours._tree is None or not self._ours.connected:
            return "not connected"
        waiting = [f"{each.what}: {each.reason}" for each in self._ours._tree.actor.waiting]
        channels = [f"{channel.channel_id}: {channel.failure or channel.is_open}" for channel in self._channels]
        return f"connected, waiting for {waiting or 'nothing'}, channels {', '.join(channels)}"
