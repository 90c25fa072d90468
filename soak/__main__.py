"""``python -m soak [module ...]``: run the modules of this package one after the other.

A module is anything here whose name has no underscore in front and that runs as ``python -m soak.NAME``; what it
prints last is its report, and its exit status says whether it failed.
"""

from __future__ import annotations

import argparse
import pkgutil
import subprocess
import sys
from pathlib import Path


def modules() -> list[str]:
    """The names of what can be run, in the order of the alphabet."""
    here = [str(Path(__file__).parent)]
    return sorted(found.name for found in pkgutil.iter_modules(here) if not found.name.startswith("_"))


def main() -> int:
    """Run the modules asked for, each in a process of its own; 1 when one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m soak", description="Run the long forms of tests.")
    parser.add_argument("modules", nargs="*", metavar="module", help=f"of {', '.join(modules())}; default: all")
    chosen = parser.parse_args().modules or modules()
    unknown = sorted(set(chosen) - set(modules()))
    if unknown:
        parser.error(f"no module {unknown[0]!r}; there are {', '.join(modules())}")
    reports = {name: _run(name) for name in chosen}
    print()
    for name, (status, report) in reports.items():
        print(f"{name}: {report}{f'  FAILED (exit status {status})' if status else ''}")
    return int(any(status for status, _ in reports.values()))


def _run(name: str) -> tuple[int, str]:
    last = "printed nothing"
    command = [sys.executable, "-m", f"soak.{name}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line.strip() or last
    return process.returncode, last


if __name__ == "__main__":
    sys.exit(main())
