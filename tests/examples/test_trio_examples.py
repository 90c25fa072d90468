"""The programs of trio users do what they say, on each transport."""

from __future__ import annotations

import signal

import pytest

from .running import TIMEOUT, run_example, start_example

EXPECTED = {
    "trio_batch_writer": ["250 readings, in few transactions: True"],
    "trio_chat": [
        "ann in the garden heard ann: is anybody here?; bob: I am; ann: good",
        "bob in the garden heard ann: is anybody here?; bob: I am; ann: good",
        "eve in the cellar heard eve: hello?",
    ],
    "trio_pipeline": ["BROWN 1", "DOG 1", "END 1", "FOX 1", "JUMPS 1", "LAZY 1", "OVER 1", "QUICK 1", "THE 3"],
    "trio_retry_later": [
        "kept the letter to nobody after 3 tries",
        "sent to a busy server at try 2",
        "sent to a friend at try 1",
    ],
    "trio_rpc": [
        "1 / 0: division by zero",
        "6 / 3: 2.0",
        "7 / 2: 3.5",
        "multiply: nobody serves",
        "slow: no reply in time",
    ],
    "trio_scraper": ["18 pages of 3 sites, 3 of them gone"],
    "trio_worker_pool": ["100 jobs done; several at a time: True; each customer's in order: True"],
}
SUPERVISED = {
    "trio_game_server": [
        "1000 rooms are open",
        "ann has 3",
        "ann has 7",
        "bob's move was not understood",
        "eve has 10",
        "final: {'ann': 7}",
        "restarted: room-0",
    ],
    "trio_socket_pool": ["100 questions answered over 4 sockets, by a server that hangs up all the time"],
}


@pytest.fixture(params=["memory", "amqp", "redis"])
def url(request: pytest.FixtureRequest) -> str:
    """A broker of each transport; nothing says the one in the program's own process."""
    given: str = "" if request.param == "memory" else request.getfixturevalue(f"{request.param}_url")
    return given


@pytest.mark.parametrize("name", EXPECTED)
def test_the_program_prints_what_it_says(name: str, url: str) -> None:
    """Nothing on stderr, and it ends with 0."""
    done = run_example(name, *filter(None, [url]))

    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.splitlines()) == EXPECTED[name]


@pytest.mark.parametrize("name", SUPERVISED)
def test_the_supervised_program_prints_what_it_says(name: str) -> None:
    """It needs no broker."""
    done = run_example(name)

    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.splitlines()) == SUPERVISED[name]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_worker_loses_no_job_when_it_is_told_to_stop(url: str, number: signal.Signals) -> None:
    """What is begun is finished, the rest is there for others."""
    with start_example("trio_graceful_stop", *filter(None, [url])) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "at work\n"
        worker.send_signal(number)
        rest, errors = worker.communicate(timeout=TIMEOUT)

    assert (worker.returncode, errors) == (0, "")
    assert rest == "stopped in order: 50 of 50 jobs are done or left for others\n"
