"""Publishing over one link: batches, their confirmation, and waiting while the server takes none.

Publishes leave in the order they were appended, one batch at a time: what gathers while a batch is
under way is the next batch.  So their order survives a refusal (maxmemory), and batches grow with the load.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

from ..._frozen import Record
from ...errors import ConnectionBlocked, ConnectionLost, PublishRefused
from ...protocols.redis import publish_calls
from ...protocols.redis.limits import LIMIT_QUESTIONS, PIECE_TOO_LARGE, Limits, too_large
from ...protocols.redis.preparing import PreparedMessage
from ...protocols.redis.publish_calls import Code, Published
from .._alarm import Alarm
from .caller import Caller
from .errors import Consequence, ErrorReply, consequence_of, translate

if TYPE_CHECKING:
    from .channel import RedisChannel
    from .settling import Settling

__all__ = ["Answer", "Publish", "PublishQueue", "Publishing"]

BATCH_MESSAGES: Final = 250
"""Publishes per script call: some 2 ms of the server's time, during which it serves nobody else."""
BATCH_BYTES: Final = 1024 * 1024
"""Bytes per script call, for the same reason; one larger message goes alone."""
REPLICA_PATIENCE: Final = 1000
"""Milliseconds after which the server says how many replicas have it so far, and is asked again."""


CROWDED_OUT_MAX: Final = 10
"""Tries, one with each beat, of a large message for which there was no room though there was some: consumers have
ten seconds to make it.  Then it alone is refused, or it would hold up all others for as long."""


class Publish(Record):
    """One message on its way, with its number on its channel."""

    channel: RedisChannel
    tag: int
    prepared: PreparedMessage


Answer = tuple[Publish, int, BaseException | None]
"""A publish, the code of ``publish_calls`` that it came to, and the error if the server couldn't store it."""


class PublishQueue:
    """The publishes of one link.  Bounded by the publishers' windows above it."""

    def __init__(self) -> None:
        self.waiting: deque[Publish] = deque()
        self.under_way: list[Publish] = []
        self.refused: str | None = None
        """The server's reason for taking none now."""
        self._alone = 0
        """How many of those that wait are to be sent one by one: one of them made the server refuse a batch."""

    @property
    def ready(self) -> bool:
        """Whether a batch may leave."""
        return bool(self.waiting) and not self.under_way and self.refused is None

    def take(self) -> Sequence[Publish]:
        """Begin the next batch."""
        size = count = 0
        for publish in islice(self.waiting, BATCH_MESSAGES):
            size += publish.prepared.size
            if count and (size > BATCH_BYTES or self._alone):
                break
            count += 1
        self._alone = max(0, self._alone - 1)
        popleft = self.waiting.popleft
        self.under_way = [popleft() for _ in range(count)]
        return self.under_way

    def refuse(self, reason: str) -> None:
        """The batch under way was refused whole: nothing of it is stored.  It waits to be sent again."""
        self.refused = reason
        self.waiting.extendleft(reversed(self.under_way))
        self.under_way = []

    def part(self) -> None:
        """The batch under way was refused for one of them: each is sent by itself."""
        self._alone = len(self.under_way)
        self.waiting.extendleft(reversed(self.under_way))
        self.under_way = []

    def answered(self, count: int | None = None) -> list[Publish]:
        """The batch under way has been answered, or the first ``count`` of it: hand it over."""
        batch = self.under_way[:count]
        del self.under_way[:count]
        self.refused = None
        return batch

    def drop(self, channel: RedisChannel) -> None:
        """Forget what a dead channel has not sent; its publisher sends it again on the next one."""
        self.waiting = deque(publish for publish in self.waiting if publish.channel is not channel)

    def withdraw(self, channel: RedisChannel, prepared: PreparedMessage) -> bool:
        """Forget one publish, unless it is under way."""
        for index, publish in enumerate(self.waiting):
            if publish.prepared is prepared and publish.channel is channel:
                del self.waiting[index]
                return True
        return False

    def holds(self, channel: RedisChannel) -> bool:
        """Whether a channel has publishes without an answer."""
        return any(publish.channel is channel for publish in (*self.under_way, *self.waiting))


class Publishing:
    """Sends what the queue holds, and tells the channels what became of it."""

    def __init__(self, caller: Caller, settling: Settling) -> None:
        self.queue = PublishQueue()
        self.alarm = Alarm()
        """Whether the server takes no publishes (its memory is full, ...)."""
        self._caller = caller
        self._settling = settling
        self._wire = caller.wires.publisher
        self._may_ask_limits = True
        self._crowded_out = 0
        """How often in a row the server had no room for a large message, while it had some."""
        self._wire.gather = self._begin_batch

    def publish(self, publish: Publish) -> None:
        """Append one publish."""
        self.queue.waiting.append(publish)
        self._wire.wake()

    def try_again(self) -> None:
        """If the server took no publishes, see whether it does now."""

        def answered(reply: object) -> None:
            still = isinstance(reply, ErrorReply) and consequence_of(reply.text) is Consequence.BLOCKED
            if still or self._caller.dead:
                return
            self.queue.refused = None
            if self.queue.waiting:
                self._wire.wake()  # the alarm ends when one is taken: there may not be room for these
            elif not self.queue.under_way:
                self.alarm.change(None)

        if self.alarm.reason is not None and self._caller.serves(self._wire):
            # This writes nothing, and is refused like a write.  Trying with what waits would make its fate
            # unknown whenever a deadline passes just then.
            self._wire.send(("SETRANGE", self._caller.terms.layout.namespace + b"nothing", 0, b""), answered)

    def _begin_batch(self) -> None:
        """Before the writer sends: what has gathered becomes a call."""
        if self.queue.ready:
            self._settling.settle_now()  # what was decided before a publish is carried out before it
            if self._settling.waits is not None:
                self._refuse_all(self._settling.waits)
                return
            batch = self.queue.take()
            if batch[0].prepared.size > BATCH_BYTES:
                self._ask_limits(partial(self._send_large, batch[0].prepared.size))
            else:
                self._send()

    def _send(self, state: bytes = b"") -> None:
        messages = [publish.prepared.arguments for publish in self.queue.under_way]
        call = publish_calls.publish(self._caller.terms.settings, messages, state)
        done = self._await_replicas if self._caller.terms.options.confirm_replicas else self._published
        self._caller.submit(call, done, self._refused, wire=self._wire)

    def _send_large(self, size: int, limits: Limits) -> None:
        objection = limits.objection(size)
        if objection is None:
            self._send()
        else:
            self._refuse_lone(too_large(size, objection))

    def _ask_limits(self, then: Callable[[Limits], None]) -> None:
        """Ask each time: they can be changed while the server runs, and a large message costs far more."""
        answers: list[object] = [None] if not self._may_ask_limits else []

        def take(reply: object) -> None:
            answers.append(reply)
            if len(answers) < len(LIMIT_QUESTIONS) or self._caller.dead:
                return
            if isinstance(answers[0], ErrorReply) and consequence_of(answers[0].text) is Consequence.NONE:
                self._may_ask_limits = False  # forbidden; it would be in the server's log of violations each time
            then(Limits.read(*answers))

        for question in LIMIT_QUESTIONS[len(answers) :]:
            self._wire.send(question, take)

    def _await_replicas(self, answer: Published) -> None:
        """Ask until enough replicas have what was published: until then nobody is told that it is safe."""
        wanted = self._caller.terms.options.confirm_replicas

        def heard(reply: object) -> None:
            if isinstance(reply, ErrorReply):
                self._caller.kill(translate(reply.text, "WAIT"))
            elif isinstance(reply, int) and reply >= wanted:
                self._published(answer)
            elif not isinstance(reply, BaseException):
                self._await_replicas(answer)

        if self._caller.serves(self._wire):
            self._wire.send(("WAIT", wanted, REPLICA_PATIENCE), heard)

    def _published(self, answer: Published) -> None:
        batch = self.queue.answered(len(answer.codes))
        self.alarm.change(None)
        self._crowded_out = 0
        self._settling.attend(answer.deaths, answer.next_timer)
        by_channel: dict[RedisChannel, list[Answer]] = {}
        for index, (publish, code) in enumerate(zip(batch, answer.codes, strict=True)):
            said = answer.errors.get(index)
            error = None if said is None else unstored(publish.prepared, said)
            by_channel.setdefault(publish.channel, []).append((publish, code, error))
        for channel, publishes in by_channel.items():
            channel.answered(publishes)
        if self.queue.under_way:
            self._send(answer.state)  # it was work enough for one call
        elif self.queue.waiting:
            self._wire.wake()

    def _refused(self, error: BaseException) -> None:
        """Nothing of the batch is stored: memory is full, mostly.  It is tried again with every beat.

        What the server refuses for another reason than its own state is refused for good, and alone.
        """
        if self._caller.dead or isinstance(error, ConnectionLost):
            return  # nobody knows what became of it: its channels' end says so
        lone = self.queue.under_way[0].prepared.size if len(self.queue.under_way) == 1 else 0
        if isinstance(error, ConnectionBlocked):
            if lone > BATCH_BYTES:
                self._crowded_out += 1
                if self._crowded_out >= CROWDED_OUT_MAX:
                    self._refuse_lone(too_large(lone, f"{self._crowded_out} times there was no room for it ({error})"))
                    return
            self._refuse_all(str(error))
        elif not lone:
            self.queue.part()
            self._wire.wake()
        elif PIECE_TOO_LARGE in str(error):
            self._refuse_lone(too_large(lone, "it is larger than the server's proto-max-bulk-len"))
        else:
            self._refuse_lone(error)

    def _refuse_all(self, reason: str) -> None:
        self.queue.refuse(reason)
        self.alarm.change(reason)

    def _refuse_lone(self, error: BaseException) -> None:
        (publish,) = self.queue.answered()
        self.alarm.change(None)
        self._crowded_out = 0
        publish.channel.answered([(publish, Code.REFUSED, error)])
        if self.queue.waiting:
            self._wire.wake()


def unstored(prepared: PreparedMessage, text: str) -> PublishRefused:
    """What a publisher is told whose message the server couldn't put into a queue."""
    return PublishRefused(
        f"a queue could not store the message to exchange {prepared.exchange!r}, routing key {prepared.routing_key!r}:"
        f" Redis says {text!r}; other queues may have it"
    )
