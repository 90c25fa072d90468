"""The programs of asyncio users do what they say, on each transport."""

from __future__ import annotations

import signal

import pytest

from .running import TIMEOUT, run_example, start_example


@pytest.fixture(params=["memory", "amqp", "redis"])
def url(request: pytest.FixtureRequest) -> str:
    """A broker of each transport; nothing says the one in the program's own process."""
    given: str = "" if request.param == "memory" else request.getfixturevalue(f"{request.param}_url")
    return given


def test_the_service_answers_its_requests(url: str) -> None:
    """Each with what the worker has made of it."""
    done = run_example("aio_web_service", *filter(None, [url]))

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"POST /count: {count} words" for count in range(1, 11)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_worker_loses_no_job_when_it_is_told_to_stop(url: str, number: signal.Signals) -> None:
    """What is begun is finished, the rest is there for others."""
    with start_example("aio_graceful_stop", *filter(None, [url])) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "at work\n"
        worker.send_signal(number)
        rest, errors = worker.communicate(timeout=TIMEOUT)

    assert (worker.returncode, errors) == (0, "")
    assert rest == "stopped in order: 50 of 50 jobs are done or left for others\n"
