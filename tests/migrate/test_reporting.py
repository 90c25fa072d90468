"""``python -m kombu_actors.migrate`` says what a code base uses of kombu, and what becomes of it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kombu_actors.migrate.command import main

ROOT = Path(__file__).parents[2]

SHOP = '''\
"""A docstring about kombu.pools is no use of it."""
import kombu
import kombu.pools as kp
from kombu import Connection as C, Queue
from kombu.transport.SQS import Channel

conn = C("amqp://", heartbeat=0)
kombu.Exchange("x", type="fanout")
with C("redis://localhost", ssl=True) as other:
    other.drain_events(timeout=1)
    kombu.utils.functional.LRUCache.fromkeys([])
kp.producers[conn].acquire().publish({}, mandatory=True)
SETTING = "kombu.transport.pyamqp:Transport"


class Worker:
    def __init__(self, connection: C):
        self.connection = connection.clone()

    def get(self, cache, item):
        cache.get(item)
        self.connection.ensure_connection(timeout=3)
'''


def told(tmp_path: Path, source: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    """The exit code, and what is said of each line."""
    path = tmp_path / "shop.py"
    path.write_text(source)
    code = main([str(path)])
    lines = capsys.readouterr().out.splitlines()
    return code, [line.removeprefix(f"{path}:") for line in lines if line.startswith(f"{path}:")]


def test_each_name_is_told_with_its_place_and_whether_it_is_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Aliases, dotted uses, calls with keywords, methods of what is seen to be kombu's, strings; with exit code 1,
    since two are missing."""
    code, lines = told(tmp_path, SHOP, capsys)
    assert code == 1
    assert lines == [
        "2: kombu: here",
        "3: kombu.pools: here",
        "4: kombu.Connection: here; may meet bad-url-errors, call-deadlines",
        "4: kombu.Queue: here",
        "5: kombu.transport.SQS.Channel: NOT HERE: transports are AMQP 0-9-1, Redis and memory",
        "7: kombu.Connection: here; may meet heartbeat-default",
        "8: kombu.Exchange: here; may meet undeclared-fanout, durable-fanout",
        "9: kombu.Connection: here; may meet url-tls-keys, tls-verified",
        "9: redis: may meet undeclared, abandoned-brpop, redis-wrong-password",
        "10: kombu.Connection.drain_events: here; may meet drain-events-recovers, redis-drain-timeout",
        "11: kombu.utils.functional.LRUCache.fromkeys: NOT HERE: inherited there from a dict; a cache is no dict here",
        "12: kombu.Producer.publish: here; may meet mandatory-confirmed, redis-mandatory, publish-without-connection,"
        " refused-publishes-once, body-max, publish-returns-then",
        "12: kombu.pools.producers: here; may meet eqhash-tls, pool-timeouts",
        "13: kombu.transport.pyamqp:Transport: a string: change it by hand if it names the library",
        "22: ensure_connection: may meet ensure-connection-deadline",
    ]


def test_what_is_somebody_elses_is_not_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Modules of like names, names that a function has for something else, relative imports, kombu_actors."""
    source = (
        "import kombucha, kombu_actors\nfrom .kombu import X\nfrom shop import kombu\nkombu.Connection()\n"
        "def f(kombu): return kombu.drain()\n"
    )
    assert told(tmp_path, source, capsys) == (0, [])


def test_an_inner_import_holds_in_its_function_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And `try: ... except ImportError: kombu = None` leaves the name kombu's."""
    source = (
        "try:\n    import kombu\nexcept ImportError:\n    kombu = None\nkombu.Queue\n"
        "def f():\n    import shop as kombu\n    kombu.Queue\n"
    )
    code, lines = told(tmp_path, source, capsys)
    assert (code, lines) == (0, ["2: kombu: here", "5: kombu.Queue: here"])


def test_star_imports_are_told_as_something_to_look_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody can see which names they bring."""
    code, lines = told(tmp_path, "from kombu.common import *\n", capsys)
    assert (code, lines) == (1, ["1: kombu.common.*: LOOK: which names it brings can't be seen: name them"])


def test_a_file_that_is_no_python_is_told_and_the_others_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Syntax errors, null bytes, wrong encodings; exit code 1."""
    (tmp_path / "broken.py").write_text("import kombu\nprint 'python 2'\n")
    (tmp_path / "null.py").write_bytes(b"import kombu\0")
    (tmp_path / "latin.py").write_bytes(b"import kombu  # \xe9\n")
    (tmp_path / "good.py").write_text("import kombu\n")
    assert main([str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert f"{tmp_path}/good.py:1: kombu: here" in lines
    assert sorted(line.partition(": NOT READ: ")[0] for line in lines if "NOT READ" in line) == [
        f"{tmp_path}/{name}.py" for name in ("broken", "latin", "null")
    ]


def test_json_says_the_same_and_explains_the_differences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``-j``: for programs."""
    (tmp_path / "shop.py").write_text(SHOP)
    assert main([str(tmp_path), "-j"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["files"] == 1
    assert [use["name"] for use in report["uses"] if use["here"] is False and use["kind"] != "string"] == [
        "kombu.transport.SQS.Channel",
        "kombu.utils.functional.LRUCache.fromkeys",
    ]
    heartbeat = report["differences"]["heartbeat-default"]
    assert heartbeat["places"] == [f"{tmp_path}/shop.py:7"]
    assert heartbeat["ours"] == "It asks for 15 s."


@pytest.mark.parametrize("arguments", [[], ["/no/such/folder"], [".", "--yes"], [".", "--wrong"]])
def test_a_wrong_command_line_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """And says on stderr what is wrong."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_it_runs_as_a_module_without_the_examined_program_or_the_runtime(tmp_path: Path) -> None:
    """Nothing of what is examined is imported; trio isn't needed either."""
    (tmp_path / "shop.py").write_text("import kombu\nkombu.Connection\nraise SystemExit(9)\n")
    script = (
        "import sys; from kombu_actors.migrate.command import main; code = main(['shop.py']);"
        " sys.exit(code or 3 * ('trio' in sys.modules or 'kombu' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    ended = subprocess.run(
        [sys.executable, "-m", "kombu_actors.migrate", "shop.py"], cwd=tmp_path, capture_output=True, timeout=60
    )
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_a_thousand_files_take_seconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files without a word of kombu are not parsed."""
    filler = "".join(f"def function_{n}(argument):\n    return argument.method({n}) + [{n}]\n" for n in range(150))
    for number in range(1000):
        folder = tmp_path / f"package_{number % 20}"
        folder.mkdir(exist_ok=True)
        text = filler if number % 10 else "from kombu import Connection\n" + filler
        (folder / f"module_{number}.py").write_text(text)
    started = time.process_time()
    assert main([str(tmp_path)]) == 0
    assert time.process_time() - started < 5
    assert "1000 files: 100 uses of kombu, 0 not here" in capsys.readouterr().out
