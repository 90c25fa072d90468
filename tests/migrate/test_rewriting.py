"""``--rewrite`` moves imports, and changes no other byte."""

from __future__ import annotations

import ast
import os
import stat
from pathlib import Path

import pytest

from kombu_actors.migrate.command import main

CASES = {
    "plain": "import KOMBU\nKOMBU.Queue\n",
    "alias": "import KOMBU as k\nk.Queue('kombu.Queue')\n",
    "from": "from KOMBU import Queue as Q, uuid\n",
    "from a module": "from KOMBU.pools import producers\n",
    "a module": "import KOMBU.pools\nKOMBU.pools.reset()\n",
    "a module's alias": "import os, KOMBU.pools as p, sys\n",
    "over lines": "from KOMBU import (\n    Queue,  # kombu\n    uuid,\n)\nfrom \\\n  KOMBU.pools import reset\n",
    "optional": "try:\n    import KOMBU\nexcept ImportError:\n    KOMBU = None\nif KOMBU: KOMBU.Queue\n",
    "for type checkers": (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import KOMBU\n"
        "def f(c: 'KOMBU.Connection | None') -> list['KOMBU.Queue']: return c.kombu.Queue\n"
    ),
    "other scopes": "import KOMBU\ndef f(kombu): return kombu.Queue\ndef g(): return KOMBU.Queue\n",
    "f-strings": "import KOMBU\nf'kombu {KOMBU.Queue}'\n",
    "unicode": "import KOMBU\n'é𝄞', KOMBU.Queue\n",
    "one line": "if 1: from KOMBU import Queue; import KOMBU\n",
    "no line end": "x = 1\n\fy = 2\nfrom KOMBU import Queue",
    "others'": "import kombucha\nfrom .kombu import X\nkombu.Queue\n",
}
"""The words that change are in capitals."""


def rewritten(tmp_path: Path, data: bytes) -> tuple[int, bytes]:
    """The exit code and what is in the file then."""
    path = tmp_path / "program.py"
    path.write_bytes(data)
    return main([str(path), "--rewrite", "--yes"]), path.read_bytes()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_way_to_import_is_moved(tmp_path: Path, case: str) -> None:
    """And the uses of a name that changes with its import."""
    before, after = (case.replace("KOMBU", name).encode() for name in ("kombu", "kombu_actors"))
    assert rewritten(tmp_path, before) == (0, after)


@pytest.mark.parametrize(
    ("head", "encoding", "newline"),
    [
        ("", "utf-8", "\n"),
        ("", "utf-8-sig", "\r\n"),
        ("# -*- coding: latin-1 -*-\n", "latin-1", "\n"),
        ("# coding: cp1251\n", "cp1251", "\r\n"),
        ("", "utf-8", "\r"),
    ],
)
def test_encodings_and_line_ends_stay(tmp_path: Path, head: str, encoding: str, newline: str) -> None:
    """Bytes that no statement needs are nobody's business."""
    word = {"latin-1": "é", "cp1251": "ж"}.get(encoding, "é𝄞")
    source = f"{head}import kombu\n\n\nX = '{word}', kombu.Queue  # {word} \t\n"
    before = source.replace("\n", newline).encode(encoding)
    after = source.replace("kombu", "kombu_actors").replace("\n", newline).encode(encoding)
    assert rewritten(tmp_path, before) == (0, after)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("from kombu.transport.SQS import Channel\n", ["1: kombu.transport.SQS.Channel: left as it was: not here"]),
        ("from kombu import *\n", ["1: kombu.*: left as it was: which names it brings can't be seen"]),
        (
            "import kombu\nkombu.Queue\nkombu.transport.SQS.Channel\n",
            [
                "1: kombu: left as it was: hangs together with kombu.transport.SQS",
                "2: kombu.Queue: left as it was: hangs together with kombu.transport.SQS",
                "3: kombu.transport.SQS: left as it was: not here",
            ],
        ),
        (
            "def f():\n    global kombu\n    import kombu\n",
            ["3: kombu: left as it was: hangs together with global kombu"],
        ),
    ],
)
def test_what_cannot_be_moved_is_left_whole_and_told(
    tmp_path: Path, source: str, told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """No program is left half moved by a name that would be missing; exit code 1."""
    code, data = rewritten(tmp_path, source.encode())
    assert (code, data) == (1, source.encode())
    lines = capsys.readouterr().out.splitlines()
    assert [line.removeprefix(f"{tmp_path}/program.py:") for line in lines[:-1]] == told


def test_nothing_is_written_without_yes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A unified diff is shown."""
    path = tmp_path / "program.py"
    path.write_text("import os\nfrom kombu import Queue\n")
    assert main([str(tmp_path), "--rewrite"]) == 0
    assert path.read_text() == "import os\nfrom kombu import Queue\n"
    name = str(path).lstrip("/")
    assert capsys.readouterr().out.splitlines() == [
        f"--- a/{name}",
        f"+++ b/{name}",
        "@@ -1,2 +1,2 @@",
        " import os",
        "-from kombu import Queue",
        "+from kombu_actors import Queue",
        "1 files to change; nothing was written: --yes does it",
    ]


def test_permissions_and_links_stay(tmp_path: Path) -> None:
    """A script stays executable; a link goes on leading to its file."""
    script = tmp_path / "script.py"
    script.write_text("#!/usr/bin/env python\nimport kombu\n")
    script.chmod(0o750)
    link = tmp_path / "link.py"
    link.symlink_to(script)
    assert main([str(link), "--rewrite", "--yes"]) == 0
    assert link.is_symlink()
    assert script.read_text() == "#!/usr/bin/env python\nimport kombu_actors\n"
    assert stat.S_IMODE(os.stat(script).st_mode) == 0o750
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.py", "script.py"]


def test_real_programs_differ_in_that_word_only_and_stay_python(tmp_path: Path) -> None:
    """All of Celery and of kombu itself: taking the word back gives the same bytes."""
    import celery
    import kombu

    for package in (celery, kombu):
        (package_path,) = package.__path__
        for path in Path(package_path).rglob("*.py"):
            data = path.read_bytes()
            if b"kombu_actors" in data or b"kombu" not in data:
                continue
            moved = rewritten(tmp_path, data)[1]
            assert moved.replace(b"kombu_actors", b"kombu") == data, path
            ast.parse(moved)
