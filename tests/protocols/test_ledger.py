"""The ledger finds the publish that ends its channel, whatever else happens, and loses none of the others."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from amqp import exceptions as amqp_errors
from hypothesis import given
from hypothesis import strategies as st

from kombu_actors._values.model import Outcome
from kombu_actors.errors import ConnectionClosed, ConnectionLost
from kombu_actors.protocols.blame import Blame, judge, names_exchange
from kombu_actors.protocols.ledger import RESENDS_MAX, SUSPECT_AFTER, TRIES_MAX, Entry, Ledger

REASONS: dict[Blame, BaseException] = {
    Blame.PUBLISH: amqp_errors.PreconditionFailed("PRECONDITION_FAILED - user_id", (60, 40), reply_code=406),
    Blame.PUBLISH_SOMEWHERE: ConnectionLost("541"),
    Blame.UNNAMED: ConnectionLost("reset"),
    Blame.UNREAD: ConnectionLost("reset"),
    Blame.OTHER: amqp_errors.PreconditionFailed("unknown delivery tag", (60, 80), reply_code=406),
}
REASONS[Blame.PUBLISH_SOMEWHERE].__cause__ = amqp_errors.InternalError("INTERNAL_ERROR", (0, 0), reply_code=541)


def lost(cause: BaseException | None) -> ConnectionLost:
    error = ConnectionLost("the connection was lost")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("reason", "blame"),
    [
        (amqp_errors.PreconditionFailed("size", (60, 40), reply_code=406), Blame.PUBLISH),
        (amqp_errors.NotFound("no exchange", (60, 40), reply_code=404), Blame.PUBLISH),
        (amqp_errors.PreconditionFailed("unknown delivery tag", (60, 80), reply_code=406), Blame.OTHER),
        (amqp_errors.PreconditionFailed("delivery acknowledgement timed out", (0, 0), reply_code=406), Blame.UNNAMED),
        (amqp_errors.ContentTooLarge("ours", (60, 60), reply_code=311), Blame.OTHER),
        (lost(None), Blame.UNNAMED),
        (lost(ConnectionResetError()), Blame.UNNAMED),
        (lost(amqp_errors.ConnectionForced("CONNECTION_FORCED", (0, 0), reply_code=320)), Blame.OTHER),
        (lost(amqp_errors.AMQPNotImplementedError("stream", (60, 70), reply_code=540)), Blame.OTHER),
        (lost(amqp_errors.AMQPNotImplementedError("immediate", (60, 40), reply_code=540)), Blame.PUBLISH_SOMEWHERE),
        (lost(amqp_errors.InternalError("INTERNAL_ERROR", (0, 0), reply_code=541)), Blame.PUBLISH_SOMEWHERE),
        (lost(amqp_errors.FrameError("FRAME_ERROR", None, reply_code=501)), Blame.PUBLISH_SOMEWHERE),
        (ConnectionClosed("you closed it"), Blame.OTHER),
    ],
)
def test_the_reason_of_an_end_says_who_may_be_to_blame(reason: BaseException, blame: Blame) -> None:
    """By class, reply code and the method that the broker answers."""
    assert judge(reason) is blame


@pytest.mark.parametrize(
    ("text", "exchange", "named"),
    [
        ("NOT_FOUND - no exchange 'x' in vhost '/'", "x", True),
        ("NOT_FOUND - no exchange 'x' in vhost '/'", "y", False),
        ("ACCESS_REFUSED - access to exchange 'amq.default' in vhost '/' refused for user 'u'", "", True),
        ("ACCESS_REFUSED - access to topic 'k' in exchange 'x' in vhost '/' refused for user 'u'", "x", False),
    ],
)
def test_a_refusal_of_an_exchange_concerns_all_publishes_to_it_and_one_of_a_topic_does_not(
    text: str, exchange: str, named: bool
) -> None:
    """404, 403 for the exchange (the default one has a name there), 403 for single routing keys."""
    assert names_exchange(amqp_errors.AccessRefused(text, (60, 40), reply_code=403), exchange) is named


class Broker:
    """A broker that some entries kill, as ``blame`` says; it takes publishes in order, and confirms any of them."""

    def __init__(self, ledger: Ledger, blame: Blame, poison: set[int]) -> None:
        self.ledger = ledger
        self.blame = blame
        self.poison = poison
        self.sent: Counter[int] = Counter()
        self.stored: list[int] = []
        self.settled: list[tuple[int, Outcome]] = []
        self.deaths = 0

    def takes(self, tag: int, entry: Entry) -> bool:
        """Whether it survives an entry that was written with ``tag``."""
        self.sent[entry.prepared] += 1
        if entry.prepared in self.poison:
            return False
        self.stored.append(entry.prepared)
        return True

    def die(self, blame: Blame | None = None) -> None:
        """The channel ends."""
        self.deaths += 1
        given = blame or self.blame
        settled = self.ledger.end_epoch(given, REASONS[given])
        self.settled += [(entry.prepared, outcome) for entry, outcome in settled]

    def confirm(self, tag: int) -> None:
        """Confirm one publish."""
        entry = self.ledger.written.get(tag)
        if entry is not None:
            self.settled.append((entry.prepared, Outcome.CONFIRMED))
        self.ledger.confirm(tag, False, True)

    def serve(self, slow: Any) -> None:
        """One epoch of the publisher; ``slow()`` says whether a confirm is late, and comes only with the others."""
        ledger = self.ledger
        while ledger.suspects or ledger.strict:
            entry = ledger.next_suspect()
            if entry is None:
                break
            ledger.wrote_suspect()
            tag = max(ledger.written)
            if not self.takes(tag, entry):
                self.die()
                return
            ledger.prove()
            if ledger.strict or not slow():
                self.confirm(tag)
            assert ledger.proven
        written = []
        for entry in ledger.take():
            written.append(entry)
        for tag, entry in enumerate(written, 1 + max(ledger.written, default=0) - len(written)):
            if not self.takes(tag, entry):
                self.die()
                return
            if not slow():
                self.confirm(tag)
        for tag in list(ledger.written):
            self.confirm(tag)


NAMED = st.sampled_from([Blame.PUBLISH, Blame.PUBLISH_SOMEWHERE])
SOME = st.integers(1, 40)


def filled(count: int) -> Ledger:
    ledger = Ledger()
    for number in range(count):
        ledger.accept(Entry(number, 1, "", "q"))
    return ledger


@given(NAMED, SOME, st.data())
def test_exactly_the_publishes_that_end_their_channel_are_refused_and_the_others_arrive_in_order(
    blame: Blame, count: int, data: st.DataObject
) -> None:
    """Two deaths for the first of them, one for each that follows; whatever the confirms do, nobody is sent often."""
    poison = data.draw(st.sets(st.integers(0, count - 1), max_size=5))
    broker = Broker(filled(count), blame, poison)
    for _ in range(2 * len(poison) + 1):
        broker.serve(lambda: data.draw(st.booleans()))
    assert len(broker.ledger) == broker.ledger.bytes == broker.ledger.suspects == 0
    outcomes = dict(broker.settled)
    assert len(broker.settled) == count, "each outcome is told once"
    assert {number for number, outcome in outcomes.items() if outcome is Outcome.REFUSED} == poison
    assert {number for number, outcome in outcomes.items() if outcome is Outcome.CONFIRMED} == set(
        range(count)
    ) - poison
    first = list(dict.fromkeys(broker.stored))
    assert first == sorted(first), "in the order they were accepted"
    assert broker.deaths <= 2 * len(poison)
    assert max(broker.sent.values()) <= 1 + 2 * len(poison)


@given(SOME, st.data())
def test_what_ends_its_session_without_a_reason_is_given_up_as_unknown_and_the_others_arrive(
    count: int, data: st.DataObject
) -> None:
    """After six deaths, of which it was alone for three."""
    (poison,) = data.draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=1))
    broker = Broker(filled(count), Blame.UNNAMED, {poison})
    for _ in range(TRIES_MAX + 1):
        broker.serve(lambda: data.draw(st.booleans()))
    assert not len(broker.ledger)
    outcomes = dict(broker.settled)
    assert len(broker.settled) == count
    assert outcomes.pop(poison) is Outcome.UNKNOWN
    assert set(outcomes.values()) <= {Outcome.CONFIRMED}
    assert broker.sent[poison] == broker.deaths == TRIES_MAX
    first = list(dict.fromkeys(broker.stored))
    assert first == sorted(first)
    assert all(sent <= 1 + SUSPECT_AFTER for number, sent in broker.sent.items() if number != poison)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("accept")),
        st.tuples(st.just("write")),
        st.tuples(st.just("suspect")),
        st.tuples(st.just("prove")),
        st.tuples(st.just("confirm"), st.integers(0, 9), st.booleans(), st.booleans()),
        st.tuples(st.just("abandon"), st.integers(0, 9)),
        st.tuples(st.just("die"), st.sampled_from(list(Blame))),
    ),
    max_size=60,
)


@given(STEPS)
def test_whatever_happens_each_entry_is_in_the_ledger_or_settled_once_and_what_waits_is_in_order(
    steps: list[tuple[Any, ...]],
) -> None:
    """Accepting, writing, confirms in any order, deadlines and deaths of all kinds, in any order."""
    ledger = Ledger()
    settled: Counter[int] = Counter()
    accepted = 0

    def told(entry: Entry, outcome: Outcome, detail: object) -> None:
        settled[entry.prepared] += 1

    for step, *details in steps:
        if step == "accept":
            ledger.accept(Entry(accepted, 1, "", "q", watcher=told))
            accepted += 1
        elif step == "write" and not ledger.suspects and not ledger.strict:
            list(ledger.take())
        elif step == "suspect" and ledger.proven:
            if ledger.next_suspect() is not None:
                ledger.wrote_suspect()
        elif step == "prove":
            ledger.prove()
        elif step == "confirm":
            tag, multiple, kind = details
            if (0 if multiple else 1) <= tag <= max(ledger.written, default=0):
                ledger.confirm(tag, multiple, kind)
        elif step == "abandon":
            entries = [*ledger.written.values(), *ledger.waiting]
            if entries:
                entry = entries[details[0] % len(entries)]
                ledger.abandon(entry)
                settled[entry.prepared] += 1
        elif step == "die":
            for entry, _ in ledger.end_epoch(details[0], REASONS[details[0]]):
                settled[entry.prepared] += 1
            assert not ledger.written
        inside = [entry.prepared for entry in (*ledger.written.values(), *ledger.waiting)]
        assert inside == sorted(inside)
        assert sorted([*inside, *settled]) == list(range(accepted))
        assert set(settled.values()) <= {1}
        assert (len(ledger), ledger.settled) == (len(inside), len(settled))
        assert ledger.bytes == len(inside)
        assert 0 <= ledger.suspects <= len(ledger.waiting)


def test_a_lone_publish_is_refused_by_the_first_death_that_blames_a_publish() -> None:
    """Nothing else was under way: there is nobody to tell it from."""
    ledger = filled(1)
    list(ledger.take())
    ((entry, outcome),) = ledger.end_epoch(Blame.PUBLISH, REASONS[Blame.PUBLISH])
    assert (entry.prepared, outcome) == (0, Outcome.REFUSED)


def test_a_publish_beside_an_abandoned_one_is_not_taken_for_it() -> None:
    """The one whose deadline passed is still on the wire, and may be what ends the channel."""
    ledger = filled(2)
    poison, innocent = list(ledger.take())
    ledger.abandon(poison)
    assert ledger.end_epoch(Blame.PUBLISH, REASONS[Blame.PUBLISH]) == []
    assert ledger.next_suspect() is innocent


def test_what_was_confirmed_or_passed_before_is_innocent() -> None:
    """The broker takes publishes in order: a confirm for a later one clears all before it."""
    ledger = filled(3)
    list(ledger.take())
    ledger.confirm(2, False, True)
    ((entry, _),) = ledger.end_epoch(Blame.PUBLISH, REASONS[Blame.PUBLISH])
    assert entry.prepared == 2
    assert [entry.prepared for entry in ledger.waiting] == [0]


def test_a_death_of_the_whole_connection_convicts_only_who_was_sent_alone() -> None:
    """The publish may be another channel's."""
    ledger = filled(1)
    list(ledger.take())
    assert ledger.end_epoch(Blame.PUBLISH_SOMEWHERE, REASONS[Blame.PUBLISH_SOMEWHERE]) == []
    assert ledger.strict
    assert ledger.next_suspect() is not None
    ledger.wrote_suspect()
    ((_, outcome),) = ledger.end_epoch(Blame.PUBLISH_SOMEWHERE, REASONS[Blame.PUBLISH_SOMEWHERE])
    assert outcome is Outcome.REFUSED


def test_publishes_to_an_exchange_that_is_named_are_refused_together() -> None:
    """404 and 403 say which: no need to find out one by one; those to others are sent again, and are no suspects."""
    ledger = Ledger()
    for exchange in ("x", "y", "x"):
        ledger.accept(Entry(exchange, 1, exchange, "q"))
    list(ledger.take())
    reason = amqp_errors.NotFound("NOT_FOUND - no exchange 'x' in vhost '/'", (60, 40), reply_code=404)
    assert [entry.prepared for entry, _ in ledger.end_epoch(Blame.PUBLISH, reason)] == ["x", "x"]
    assert ([entry.prepared for entry in ledger.waiting], ledger.suspects) == (["y"], 0)


def test_faults_of_others_do_not_count_against_a_publish_but_are_not_endless_either() -> None:
    """An operator closing connections, bad acks of a neighbour: the same message is not sent for ever."""
    ledger = filled(1)
    for _ in range(RESENDS_MAX - 1):
        list(ledger.take())
        assert ledger.end_epoch(Blame.OTHER, REASONS[Blame.OTHER]) == []
        assert not ledger.suspects
    list(ledger.take())
    ((_, outcome),) = ledger.end_epoch(Blame.OTHER, REASONS[Blame.OTHER])
    assert outcome is Outcome.UNKNOWN


def test_a_broker_that_was_not_reading_convicts_nobody() -> None:
    """Sessions lost during an alarm say nothing of what was written to them."""
    ledger = filled(2)
    for _ in range(2 * RESENDS_MAX):
        list(ledger.take())
        assert ledger.end_epoch(Blame.UNREAD, REASONS[Blame.UNREAD]) == []
    assert ledger.suspects == 0


def test_where_the_broker_says_which_publish_it_means_nobody_else_is_suspected() -> None:
    """Redis answers each publish; the channel ends over one all the same, as RabbitMQ's would."""
    ledger = filled(3)
    list(ledger.take())
    refused = ledger.refuse(2)
    assert refused is not None
    ledger.confirm(3, False, True)
    assert ledger.end_epoch(Blame.PUBLISH, REASONS[Blame.PUBLISH]) == []
    assert ([entry.prepared for entry in ledger.waiting], ledger.suspects) == ([0], 0)
    assert (ledger.bytes, ledger.settled) == (1, 2)


def test_what_fits_no_frame_any_more_is_refused_whether_it_is_a_suspect_or_not() -> None:
    """The oldest that waits, before it is written: the others keep their order, and the suspects their number."""
    ledger = Ledger()
    first, second, third = (Entry(name, 1, "", name) for name in "abc")
    for entry in (first, second):
        ledger.accept(entry)
    assert list(ledger.take()) == [first, second]
    assert ledger.end_epoch(Blame.PUBLISH_SOMEWHERE, REASONS[Blame.PUBLISH_SOMEWHERE]) == []
    ledger.accept(third)
    assert ledger.suspects == 2
    assert ledger.refuse_next() is first
    assert (ledger.suspects, ledger.next_suspect()) == (1, second)
    assert ledger.refuse_next() is second
    assert ledger.next_suspect() is None
    assert ledger.refuse_next() is third
    assert (len(ledger), ledger.bytes, ledger.settled) == (0, 0, 3)
