"""Each small example is run as its reader would run it, on a broker in its process and on RabbitMQ."""

from __future__ import annotations

import signal

import pytest

from tests.support.brokers import RabbitMQNode
from tests.support.certs import Certificates

from .running import run_example, start_example

EXPECTED = {
    "hello_publisher_consumer": ["received {'name': 'a.mpg', 'size': 1301013}"],
    "native_publish_subscribe": [
        "*.kitchen: temperature.kitchen 21.5",
        "*.kitchen: temperature.kitchen 22.0",
        "temperature.*: temperature.cellar 11.0",
        "temperature.*: temperature.kitchen 21.5",
        "temperature.*: temperature.kitchen 22.0",
    ],
    "pool": ["100 hits at the broker", "100 hits over at most 2 connections"],
    "simple_queue": ["buy milk", "walk the dog"],
}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_example_runs_on_a_broker_in_its_own_process(name: str) -> None:
    """Without arguments it prints what it says, nothing on stderr, and ends with 0."""
    done = run_example(name)

    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.splitlines()) == EXPECTED[name]


@pytest.mark.parametrize("name", EXPECTED)
def test_the_example_runs_the_same_on_rabbitmq(name: str, amqp_url: str) -> None:
    """With a URL it prints the same."""
    done = run_example(name, amqp_url)

    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.splitlines()) == EXPECTED[name]


def test_failover_goes_on_at_the_second_broker_when_the_first_is_taken_away() -> None:
    """The second publish waits for the other broker, where the queue is declared before."""
    done = run_example("failover")

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "published by way of memory://first//",
        "published by way of memory://second//",
        "received 'hello again'",
    ]


def test_failover_skips_an_address_where_nobody_answers(amqp_url: str) -> None:
    """The list may begin with a dead broker."""
    done = run_example("failover", f"amqp://127.0.0.1:1;{amqp_url}")

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["received 'hello'", "received 'hello again'"]


def test_tls_receives_what_it_sent_and_refuses_a_broker_that_it_cannot_verify(
    rabbitmq: RabbitMQNode, certificates: Certificates, vhost: str
) -> None:
    """With the right authority it prints the message, with another one which check failed."""
    url = rabbitmq.tls_url(vhost=vhost)
    done = run_example("tls", url, str(certificates.ca))
    assert (done.returncode, done.stdout, done.stderr) == (0, "received 'hello in private'\n", "")

    refused = run_example("tls", url, str(certificates.stranger_ca))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "its TLS certificate was not accepted for 'localhost'" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_the_redis_worker_does_each_job_once_in_the_order_of_priorities_and_obeys(redis_url: str) -> None:
    """Also the job that takes longer than the visibility timeout; a broadcast ends the worker."""
    done = run_example("redis_worker", redis_url)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "cook, priority 0",
        "sweep, priority 3",
        "go home, priority 9",
        "told to stop",
        "0 jobs left",
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_worker_does_its_jobs_and_leaves_in_order_when_told_to(number: signal.Signals) -> None:
    """It works off good jobs, tries the bad one twice, and a signal ends it with status 0."""
    with start_example("supervised_worker") as worker:
        assert worker.stdout is not None
        lines = [worker.stdout.readline().strip() for _ in range(6)]
        worker.send_signal(number)
        last, errors = worker.communicate(timeout=20)

    assert (worker.returncode, errors) == (0, "")
    assert sorted(lines) == sorted(
        [f"job {n}: {1000 / n}" for n in (1, 2, 3, 4)] + 2 * ["job 0 failed: ZeroDivisionError('division by zero')"]
    )
    assert last == "stopped after 4 jobs\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_mixin_worker_answers_and_stops_at_once_when_told_to(number: signal.Signals) -> None:
    """Both requests are answered; the signal ends ``run`` in order, within its wait for the next event."""
    with start_example("mixin_worker") as worker:
        assert worker.stdout is not None
        asked = [worker.stdout.readline() for _ in range(2)]
        worker.send_signal(number)
        answers, errors = worker.communicate(timeout=20)

    assert (worker.returncode, errors) == (0, "")
    assert asked == [f"asked for the square of {n}\n" for n in (2, 3)]
    assert answers == "answer 2: 4\nanswer 3: 9\n"
