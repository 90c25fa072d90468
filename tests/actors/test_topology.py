"""What is wished for: names that follow the broker's, and queues that went as they were to."""

from __future__ import annotations

from kombu_actors._values.model import BindingKind, BindingSpec, ExchangeSpec, QueueSpec
from kombu_actors.actors.topology import DORMANT_LIMIT, FORMER_NAMES, Named, QueueNames, Topology


def binding(queue: str, exchange: str = "x") -> BindingSpec:
    return BindingSpec(kind=BindingKind.QUEUE, source=exchange, destination=queue)


def declared(topology: Topology, name: str, *, auto_delete: bool = False) -> None:
    topology.queue_declared(QueueSpec(name=name, auto_delete=auto_delete), name)


def test_every_name_a_queue_had_lately_leads_to_its_present_one() -> None:
    """Programs keep names in variables: the first one for ever, those of the last sessions as well."""
    names = QueueNames()
    for session in range(100):
        names.renamed("first", f"name-{session}")
    for name in ("first", *(f"name-{session}" for session in range(100 - FORMER_NAMES, 100))):
        assert names.known(name) == "first"
        assert names.current(name) == "name-99"
    assert names.current("name-5") == "name-5"  # bounded: nobody has used it for a hundred sessions
    names.forget("first")
    assert [names.current(name) for name in ("first", "name-99")] == ["first", "name-99"]
    assert not names.by_known


def test_bindings_by_any_name_of_a_queue_are_one_binding() -> None:
    """Bound by the name of one session and unbound by that of another: gone."""
    topology = Topology(lambda known: True)
    topology.queue_declared(QueueSpec(name=""), "first")
    topology.names.renamed("first", "second")
    topology.bound(binding("second"))
    assert topology.bindings_to(BindingKind.QUEUE, "first") == [binding("first")]
    assert topology.in_session(binding("first")) == binding("second")
    topology.names.renamed("first", "third")
    topology.unbound(binding("second"))
    assert not topology.bindings
    topology.bound(binding("third"))
    topology.queue_deleted("third")
    assert not topology.bindings
    assert not topology.queues


def test_an_auto_delete_queue_that_went_with_its_last_consumer_is_not_restored() -> None:
    """The program ended its subscription, and with it the queue; a new subscription brings both back."""
    consumed = {"q", "durable"}
    topology = Topology(consumed.__contains__)
    topology.exchange_declared(ExchangeSpec(name="x"))
    declared(topology, "q", auto_delete=True)
    declared(topology, "durable")
    topology.bound(binding("q"))
    topology.consumer_left("q")  # one of several
    assert topology.wishes_for(Named("queue", "q"))
    consumed.clear()
    topology.consumer_left("q")
    topology.consumer_left("durable")
    assert not topology.wishes_for(Named("queue", "q"))
    assert not topology.wishes_for(binding("q"))
    assert list(topology.entities()) == [Named("exchange", "x"), Named("queue", "durable")]
    topology.consumer_came("q")
    assert topology.wishes_for(binding("q"))
    topology.consumer_left("q")
    declared(topology, "q", auto_delete=True)
    assert topology.wishes_for(Named("queue", "q"))
    assert not topology.bindings  # it is another queue


def test_queues_that_went_are_not_remembered_without_bound() -> None:
    """A program that makes a queue for each request may make a million."""
    topology = Topology(lambda known: False)
    for number in range(DORMANT_LIMIT + 10):
        declared(topology, f"reply-{number}", auto_delete=True)
        topology.bound(binding(f"reply-{number}"))
        topology.consumer_left(f"reply-{number}")
    assert len(topology.queues) == len(topology.bindings) == DORMANT_LIMIT


def test_what_another_connection_bound_ends_with_what_is_deleted() -> None:
    """The queue comes back with its consumer, and with the bindings of its own connection alone."""
    topology = Topology(lambda known: True)
    declared(topology, "q")
    topology.bound(binding("q", "own"))
    for exchange in ("own", "theirs", "other"):
        topology.bound_elsewhere(binding("q", exchange))
    topology.bound_elsewhere(binding("unknown", "theirs"))
    assert set(topology.bindings) == {binding("q", exchange) for exchange in ("own", "theirs", "other")}
    topology.deleted_elsewhere(Named("exchange", "other"))
    assert set(topology.bindings) == {binding("q", exchange) for exchange in ("own", "theirs")}
    topology.deleted_elsewhere(Named("queue", "q"))
    assert set(topology.bindings) == {binding("q", "own")}
    topology.bound_elsewhere(binding("q", "theirs"))
    topology.bound(binding("q", "theirs"))  # by itself now, too
    topology.deleted_elsewhere(Named("queue", "q"))
    assert set(topology.bindings) == {binding("q", exchange) for exchange in ("own", "theirs")}
