"""The short form of ``soak.fleet_soak``: a fleet in four processes, a fault of each kind, and a message that kills."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import trio

from soak.fleet_soak.play import Terms, play
from soak.fleet_soak.striking import Node

TERMS = Terms(
    seconds=90,
    rate=150,  # five processes, the brokers, and other tests share two cores
    between=(0.5, 1.5),
    faults=9,  # each kind
    ready_within=20,  # the product needs some 2 s, a process on a busy machine ten
)


@pytest.fixture
def quiet() -> Iterator[None]:
    """What is logged is what is provoked here."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["amqp", "redis"])
def test_nothing_is_lost_and_no_innocent_is_dead_lettered(
    transport: str, tmp_path: Path, quiet: None, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """Kill -9 and SIGSTOP of the broker and of workers, resets, a black hole, refusals, a memory alarm, a deleted
    queue, with handlers that raise, overrun, and kill their process: every confirmed message is handled or a dead
    letter, as it is to be; repeated is no more than the faults explain; all is READY again after each."""
    own: Callable[..., Node] = request.getfixturevalue("own_rabbitmq" if transport == "amqp" else "own_redis")
    node = own() if transport == "amqp" else own(durable=True)
    soak = trio.run(partial(play, node, 3, tmp_path, TERMS))
    with capsys.disabled():
        print(f"\n  {transport}: {soak}")
