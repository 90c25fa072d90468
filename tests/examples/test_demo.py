"""The demonstration keeps its word: nothing is lost, it says so, and its exit status is true."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys

from tests.support.brokers import RabbitMQNode

from .running import ENVIRONMENT, ROOT, TIMEOUT, command, run_example, start_example

SHORT = ("--messages", "600", "--seconds", "2", "--faults", "6")


def account(text: str) -> dict[str, int]:
    """The numbers of the account that ends a demonstration's output."""
    names = "published|confirmed|handled|duplicates|lost|faults|restarts"
    return {name: int(number) for name, number in re.findall(rf"^ *({names}) +(\d+)\b", text, re.MULTILINE)}


def assert_nothing_was_lost(done: subprocess.CompletedProcess[str]) -> None:
    assert (done.returncode, done.stderr) == (0, ""), done.stdout[-3000:]
    assert done.stdout.endswith("nothing was lost\n")
    numbers = account(done.stdout)
    assert (numbers["published"], numbers["confirmed"], numbers["handled"], numbers["lost"]) == (600, 600, 600, 0)
    assert numbers["faults"] == 6
    assert numbers["restarts"] >= 6
    for fault in ("handler crash", "channel closed by the broker", "session lost"):
        assert f"2 x {fault}" in done.stdout


def test_nothing_is_lost_on_a_broker_in_the_process() -> None:
    """Two faults of each kind on memory://: 600 published, 600 handled."""
    assert_nothing_was_lost(run_example("demo", *SHORT))


def make_demo(*variables: str) -> subprocess.CompletedProcess[str]:
    """Run ``make demo`` in the environment that the tests run in."""
    made = f"{sys.prefix}/.installed"
    words = ["make", f"VENV={sys.prefix}", "--assume-old", made, "demo", *variables]
    # Of the make that runs the tests it is to know nothing: not its level, nor its variables.
    own = {name: value for name, value in ENVIRONMENT.items() if not name.startswith(("MAKE", "MFLAGS", "ARGS", "URL"))}
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT, env=own, check=False)


def test_make_demo_shows_the_job_and_then_the_fleet() -> None:
    """One after the other, and it ends with 0 when both keep their word."""
    done = make_demo(f"ARGS={' '.join(SHORT)}")

    assert done.returncode == 0, done.stdout + done.stderr
    job, _, fleet = done.stdout.partition("A shop as a fleet")
    assert "nothing was lost\n" in job
    assert fleet.endswith("each message that came is accounted for: True\n")
    assert "Traceback" not in done.stderr


def test_make_demo_fails_when_the_demonstration_does() -> None:
    """With make's status for it, and no second part."""
    done = make_demo("URL=amqp://127.0.0.1:1")

    assert done.returncode == 2
    assert done.stderr.startswith("no broker at 127.0.0.1:1")
    assert done.stdout == ""


def test_nothing_is_lost_on_rabbitmq(amqp_url: str) -> None:
    """The same on a real broker, whose connections are really cut."""
    assert_nothing_was_lost(run_example("demo", *SHORT, "--url", amqp_url))


def test_it_leaves_nothing_behind_on_rabbitmq(amqp_url: str, vhost: str, rabbitmq: RabbitMQNode) -> None:
    """Queue and connections are gone with it; without a fault nothing is delivered twice."""
    done = run_example("demo", *SHORT, "--faults", "0", "--url", amqp_url)

    assert done.returncode == 0, done.stderr
    assert account(done.stdout)["duplicates"] == 0
    rabbitmq.wait_until_no_connections(vhost)
    assert rabbitmq.list_queues(vhost) == {}


def test_ctrl_c_stops_it_in_order_and_prints_the_account() -> None:
    """The account so far, no traceback, and a status that claims nothing."""
    with start_example("demo", "--seconds", "60") as demo:
        assert demo.stdout is not None
        first = demo.stdout.readline()
        demo.send_signal(signal.SIGINT)
        rest, errors = demo.communicate(timeout=TIMEOUT)

    assert (demo.returncode, errors) == (1, "")
    assert "stopped by SIGINT" in rest
    numbers = account(first + rest)
    assert 0 < numbers["confirmed"] < 5000
    assert numbers["lost"] == numbers["confirmed"] - numbers["handled"]


def test_the_deadline_ends_it_and_it_says_what_is_missing() -> None:
    """Whatever hangs, it ends, with status 1 and the messages it misses."""
    done = run_example("demo", "--seconds", "60", "--deadline", "1")

    assert (done.returncode, done.stderr) == (1, "")
    assert re.search(r"not complete after 1 s; not confirmed: \d+ \(", done.stdout)


def test_a_broker_that_is_not_there_is_one_sentence() -> None:
    """No traceback for a wrong URL."""
    done = run_example("demo", "--url", "amqp://127.0.0.1:1")

    assert done.returncode == 1
    assert done.stderr.startswith("no broker at 127.0.0.1:1")
    assert done.stderr.count("\n") == 1


def test_a_wrong_password_is_one_sentence(amqp_url: str) -> None:
    """Nor for a refused login."""
    done = run_example("demo", "--url", amqp_url.replace("guest:guest", "guest:wrong"))

    assert done.returncode == 1
    assert "ACCESS_REFUSED" in done.stderr
    assert done.stderr.count("\n") == 1


def test_on_a_terminal_it_shows_the_live_picture_and_then_the_account() -> None:
    """The picture has the account, the tree and the events; the terminal is restored afterwards."""
    ours, theirs = pty.openpty()
    environment = {**ENVIRONMENT, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
    with subprocess.Popen(command("demo", *SHORT), stdout=theirs, stderr=theirs, env=environment) as demo:
        os.close(theirs)
        shown = _read_all(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)

    assert demo.returncode == 0, text[-3000:]
    for part in ("supervision", "events", "handler-4", "topology", "epoch 2", "fault: session lost"):
        assert part in text
    alternate_screen_off = "\x1b[?1049l"
    ending = shown.rpartition(alternate_screen_off)[2]
    assert account(ending)["handled"] == 600
    assert ending.endswith("nothing was lost\r\n")


def _read_all(terminal: int) -> str:
    """Read a pseudo-terminal until the program on its other side is gone."""
    chunks = []
    while True:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # Linux' way to say that nobody has the other side open any more
            break
        if not chunk:
            break
        chunks.append(chunk)
    os.close(terminal)
    return b"".join(chunks).decode()
