"""Carries a program out on a broker, and holds what happens against the model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

import attrs

from kombu_actors import Producer

from .checking import RECOVERY, Checks, Violation
from .peer import headers_of
from .realms import Realm
from .steps import (
    AddQueue,
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
    Side,
    Step,
    Unbind,
)

__all__ = ["RECOVERY", "Outcome", "Violation", "run"]

NOWHERE = "nowhere"
"""An exchange that there isn't.  Of a publish to it the channel's next call may tell, at any time later."""
RETRY = {"max_retries": 40, "interval_start": 0.02, "interval_step": 0.02, "interval_max": 0.2}
"""How the program publishes: it waits for the session, as programs do."""


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


class _Program(Checks):
    """The program under test, its peer, and who looks on."""

    def __init__(self, realm: Realm, within: float) -> None:
        super().__init__(realm, within)
        self.faults = 0
        self._published = 0
        self._producer = Producer(self._ours.default_channel)

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
