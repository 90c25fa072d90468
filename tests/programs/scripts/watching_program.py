"""Flower, or an exporter, watches a worker of Celery: ``python watching_program.py flower|exporter URL``.

Worker and watcher are processes of their own, as they are run; the watcher is asked over HTTP.  Prints what came of it
as JSON; in the middle it asks for a reset (``told.reset``).
"""

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from told import outcome, reset

watcher, url = sys.argv[1:3]
os.environ["BROKER"] = url
sys.path.insert(0, str(Path(__file__).parent))
from celery_tasks import add  # noqa: E402

TASKS = 30
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
celery = [sys.executable, "-m", "celery", "-A", "celery_tasks"]
watching = {
    "flower": [*celery, "flower", f"--port={port}", "--address=127.0.0.1"],
    "exporter": [
        *[sys.executable, "-c", "from celery_prometheus_exporter import main; main()"],
        *["--addr", f"127.0.0.1:{port}", "--enable-events", "--broker", url],
    ],
}[watcher]
counted = {
    "flower": r'flower_events_total\{[^}]*type="task-succeeded"[^}]*\} ([\d.]+)',
    "exporter": r'celery_tasks(?:_total)?\{state="SUCCESS"\} ([\d.]+)',
}[watcher]


def seen():
    """How many tasks the watcher has seen succeed."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return sum(float(count) for count in re.findall(counted, answer.read().decode()))
    except OSError:
        return -1


def wait_for(condition, seconds=30):
    """Until a condition holds or time is over."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return condition()


def work(count):
    """Have tasks done, and count those that succeeded."""
    results = [add.delay(n, n) for n in range(count)]
    return sum(result.get(timeout=30) == 2 * n for n, result in enumerate(results))


quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": Path(__file__).parent}
if os.environ.get("LOUD"):
    quiet = {"stdout": sys.stderr, "stderr": sys.stderr, "cwd": Path(__file__).parent}
worker = subprocess.Popen([*celery, "worker", "-P", "threads", "-c", "2", "-l", "INFO", "-E"], **quiet)
watch = subprocess.Popen(watching, **quiet)
try:
    wait_for(lambda: seen() >= 0)
    done = 0
    while seen() < 1:  # until it hears events
        done += work(1)
        time.sleep(0.2)
    before = seen()
    done = work(TASKS)
    wait_for(lambda: seen() >= before + TASKS, 15)
    first = seen() - before
    reset()
    add.delay(0, 0).get(timeout=30)  # everybody is back
    end = time.monotonic() + 60
    before = seen()
    while seen() <= before and time.monotonic() < end:
        work(1)
        time.sleep(0.2)
    before = seen()
    done += work(TASKS)
    wait_for(lambda: seen() >= before + TASKS, 15)
    outcome(done=done, first=first, second=seen() - before, back=round(time.monotonic() - end + 60, 1))
finally:
    for process in (worker, watch):
        process.terminate()
    for process in (worker, watch):
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
