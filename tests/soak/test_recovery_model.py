"""The model behind ``soak.recovery``: what it says must be heard, may be heard, and is over."""

from __future__ import annotations

from typing import get_args

import pytest

from soak.recovery.model import Traits, Truth, World, matches
from soak.recovery.plan import FAULTS, plan
from soak.recovery.realms import TRAITS
from soak.recovery.shrink import shrink
from soak.recovery.steps import (
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

OURS, PEER = Side.OURS, Side.PEER
TIE = Binding("x", "q", "a")
RESET = Fault(Harm.RESET)


def world(*steps: Step, traits: Traits = TRAITS["amqp"]) -> World:
    """The world after these steps, each of which must make sense when it is made."""
    made = World(traits)
    for step in steps:
        assert made.applies(step), f"{step} makes no sense here"
        made.apply(step)
    return made


def consumed(kind: Kind, *after: Step, exchange: Side = OURS, tie: Side = OURS) -> World:
    """A queue that is bound and consumed from on channel 1, and what happens to it."""
    return world(
        DeclareExchange(exchange, "x", "direct", True),
        DeclareQueue(OURS, "q", kind),
        Consume("c", 1, ("q",)),
        Bind(tie, TIE),
        *after,
    )


@pytest.mark.parametrize("harm", [Harm.RESET, Harm.ABANDONED, Harm.RESTART, Harm.BAD_ACK])
@pytest.mark.parametrize("kind", list(Kind))
def test_what_we_declared_bound_and_consume_is_back_after_every_fault(kind: Kind, harm: Harm) -> None:
    """Queue, binding and consumer hold as before."""
    after = consumed(kind, Fault(harm, 1))

    assert after.hears("q") is Truth.YES
    assert after.routed("x", "a") == {"q": Truth.YES}


def test_a_binding_by_the_peer_is_anybodys_guess_once_its_queue_may_have_gone() -> None:
    """Nobody told us of it; a durable queue keeps it."""
    assert consumed(Kind.DURABLE, RESET, tie=PEER).routed("x", "a") == {"q": Truth.YES}
    assert consumed(Kind.AUTO_DELETE, RESET, tie=PEER).routed("x", "a") == {"q": Truth.MAYBE}


def test_a_channel_takes_the_queues_of_its_own_consumers_only() -> None:
    """The guess above is none for a queue that is consumed from on another channel."""
    assert consumed(Kind.AUTO_DELETE, Fault(Harm.BAD_ACK, 1), tie=PEER).routed("x", "a") == {"q": Truth.MAYBE}
    assert consumed(Kind.AUTO_DELETE, Fault(Harm.BAD_ACK, 2), tie=PEER).routed("x", "a") == {"q": Truth.YES}


def test_what_we_undid_stays_undone_after_a_fault() -> None:
    """Unbound, deleted, cancelled with its auto-delete queue."""
    assert consumed(Kind.DURABLE, Unbind(OURS, TIE), RESET).routed("x", "a") == {"q": Truth.NO}
    assert consumed(Kind.DURABLE, DeleteExchange(OURS, "x"), RESET).exchanges["x"].there is Truth.NO
    assert consumed(Kind.DURABLE, DeleteQueue(OURS, "q"), RESET).queues["q"].there is Truth.NO
    assert consumed(Kind.AUTO_DELETE, Cancel("c"), RESET).queues["q"].there is Truth.NO
    assert consumed(Kind.AUTO_DELETE, RemoveQueue("c", "q"), RESET).queues["q"].there is Truth.NO


def test_a_cancelled_durable_queue_stays_and_nobody_hears() -> None:
    """The broker keeps its messages."""
    after = consumed(Kind.DURABLE, Cancel("c"), RESET)

    assert (after.queues["q"].there, after.hears("q")) == (Truth.YES, Truth.NO)


def test_a_queue_that_the_peer_deleted_is_back_at_once_if_we_consume_from_it() -> None:
    """The broker cancels our consumer, so we know; otherwise nobody does until our next session."""
    assert consumed(Kind.DURABLE, DeleteQueue(PEER, "q")).routed("x", "a") == {"q": Truth.YES}
    unheard = (Cancel("c"), DeleteQueue(PEER, "q"))
    assert consumed(Kind.DURABLE, *unheard).queues["q"].there is Truth.MAYBE
    assert consumed(Kind.DURABLE, *unheard, RESET).queues["q"].there is Truth.YES


def test_an_exchange_that_the_peer_took_away_brings_our_binding_back_when_it_returns_after_a_fault() -> None:
    """Without a fault between we can't know that the binding went with it."""
    gone = DeleteExchange(PEER, "x")

    assert consumed(Kind.DURABLE, gone, exchange=PEER).routed("x", "a") == {"q": Truth.NO}
    assert consumed(Kind.DURABLE, gone, PeerReturns(1), exchange=PEER).routed("x", "a") == {"q": Truth.MAYBE}
    assert consumed(Kind.DURABLE, gone, RESET, exchange=PEER).routed("x", "a") == {"q": Truth.NO}
    assert consumed(Kind.DURABLE, gone, RESET, PeerReturns(1), exchange=PEER).routed("x", "a") == {"q": Truth.YES}


def test_a_binding_that_the_peer_undid_is_gone_and_after_a_fault_a_guess() -> None:
    """We restore what we made, and can't know that somebody else undid it."""
    assert consumed(Kind.DURABLE, Unbind(PEER, TIE)).routed("x", "a") == {"q": Truth.NO}
    assert consumed(Kind.DURABLE, Unbind(PEER, TIE), RESET).routed("x", "a") == {"q": Truth.MAYBE}


def test_what_the_peer_binds_over_a_connection_of_this_library_is_restored_as_it_was_last() -> None:
    """In memory the peer is one."""
    ties = (DeclareExchange(OURS, "x", "direct", True), DeclareQueue(OURS, "q", Kind.AUTO_DELETE), Bind(PEER, TIE))
    consumers = (Consume("c", 1, ("q",)), RESET)
    memory = TRAITS["memory"]

    assert world(*ties, *consumers, traits=memory).routed("x", "a") == {"q": Truth.YES}
    assert world(*ties, Unbind(PEER, TIE), *consumers, traits=memory).routed("x", "a") == {"q": Truth.NO}


def test_a_restart_takes_what_is_not_durable_and_the_peers_comes_back_with_the_peer() -> None:
    """Ours is back at once."""
    program: tuple[Step, ...] = (DeclareQueue(PEER, "q", Kind.TRANSIENT), Consume("c", 0, ("q",)), Fault(Harm.RESTART))

    assert world(*program).hears("q") is Truth.NO
    assert world(*program, PeerReturns(1)).hears("q") is Truth.YES


def test_durable_queues_owe_what_was_accepted_for_them() -> None:
    """Directly, and by a durable exchange; not to a consumer that acknowledges nothing."""
    assert consumed(Kind.DURABLE).keeps("", "q") == {"q"}
    assert consumed(Kind.DURABLE).keeps("x", "a") == {"q"}
    assert consumed(Kind.DURABLE).keeps("x", "b") == set()
    assert consumed(Kind.AUTO_DELETE).keeps("x", "a") == set()
    careless = world(DeclareQueue(OURS, "q", Kind.DURABLE), Consume("c", 1, ("q",), no_ack=True))
    assert careless.keeps("", "q") == set()


def test_a_program_does_nothing_that_makes_no_sense() -> None:
    """So shrinking may leave any step out."""
    durable = consumed(Kind.DURABLE)

    assert not durable.applies(Consume("d", 0, ("q",)))  # one consumer each: else nobody knows who hears
    assert not durable.applies(DeleteQueue(OURS, "unknown"))
    assert not durable.applies(Publish(OURS, "unknown", "a", 1))
    assert not durable.applies(DeclareQueue(OURS, "q", Kind.DURABLE))
    assert not consumed(Kind.EXCLUSIVE).applies(DeleteQueue(PEER, "q"))


@pytest.mark.parametrize(
    ("pattern", "key", "passes"),
    [
        ("a.x", "a.x", True),
        ("*.x", "b.x", True),
        ("*.x", "x", False),
        ("#", "", True),
        ("a.#", "a", True),
        ("", "a", False),
    ],
)
def test_topics_match_by_words(pattern: str, key: str, passes: bool) -> None:
    """As AMQP says."""
    assert matches("topic", pattern, key) is passes


@pytest.mark.parametrize("transport", TRAITS)
def test_a_seed_is_one_program_with_twenty_faults_and_a_check_at_its_end(transport: str) -> None:
    """The same for everybody, and every step of it makes sense."""
    for seed in range(50):
        steps = plan(seed, TRAITS[transport])
        assert steps == plan(seed, TRAITS[transport])
        world(*steps, traits=TRAITS[transport])
        faults = [
            step
            for step in steps
            if isinstance(step, Fault | PeerReturns)
            or (isinstance(step, DeleteQueue | DeleteExchange) and step.side is PEER)
        ]
        assert FAULTS <= len(faults) <= FAULTS + 1
        assert isinstance(steps[-1], Check)


def test_every_kind_of_step_and_harm_is_in_the_first_programs() -> None:
    """Nothing is left out without anybody's noticing."""
    for transport, traits in TRAITS.items():
        steps = [step for seed in range(100) for step in plan(seed, traits)]
        assert {step.harm for step in steps if isinstance(step, Fault)} == set(traits.harms), transport
        assert {step.kind for step in steps if isinstance(step, DeclareQueue)} == set(Kind)
        left_out = {kind.__name__ for kind in get_args(Step)} - {type(step).__name__ for step in steps}
        assert left_out == ({"PeerReturns"} if transport == "redis" else set())


def test_shrinking_leaves_out_what_a_failure_does_not_need() -> None:
    """And takes no other failure for it."""
    steps = plan(1, TRAITS["amqp"])
    wanted = [steps[3], steps[17]]

    def fails(shorter: object) -> str | None:
        assert isinstance(shorter, list)
        return "deaf" if all(step in shorter for step in wanted) else "lost"

    assert shrink(steps, "deaf", fails) == wanted
