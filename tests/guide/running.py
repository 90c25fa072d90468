"""Runs programs written for kombu: ``python -m tests.guide.running URL FILE...`` prints what each printed as JSON.

One process runs many: loading the library takes longer than most of them do.  Each is run as ``__main__`` is, with the
broker's URL as its argument.
"""

from __future__ import annotations

import contextlib
import io
import json
import runpy
import sys
import traceback
from pathlib import Path


def run(path: str, url: str) -> str:
    """What the program printed, and how it failed, if it did."""
    printed = io.StringIO()
    sys.argv = [path, url]
    name = f"guide_{Path(path).stem}"
    try:
        with contextlib.redirect_stdout(printed):
            runpy.run_path(path, run_name=name)
    except BaseException:
        printed.write(traceback.format_exc())
    return printed.getvalue()


if __name__ == "__main__":
    url, *paths = sys.argv[1:]
    print(json.dumps({Path(path).stem: run(path, url) for path in paths}))
