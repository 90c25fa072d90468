"""The example in docs/supervision.md does what the document says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "supervision.md"


def test_the_documented_example_prints_what_is_documented(capsys: pytest.CaptureFixture[str]) -> None:
    """Run as written, on a real clock."""
    text = DOCUMENT.read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    (printed,) = re.findall(r"```text\n(.*?)```", text, re.S)
    exec(compile(code, str(DOCUMENT), "exec"), {"__name__": "example"})
    assert capsys.readouterr().out == printed
