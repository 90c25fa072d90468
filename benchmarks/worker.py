"""One run of one contender, in a process of its own: ``python -m benchmarks.worker <run as JSON>``.

Prints the sample as JSON.  The program named is imported only here, so that no contender's
process holds another's modules.
"""

from __future__ import annotations

import importlib
import json
import sys

import attrs

from .cases import Task
from .meter import Sample


def main(run: str) -> None:
    """Do what the JSON text says and print what it came to."""
    wanted = json.loads(run)
    module, _, function = wanted["program"].partition(":")
    program = getattr(importlib.import_module(f"benchmarks.{module}"), function)
    library = importlib.import_module(wanted["library"])
    sample: Sample = program(library, Task(**wanted["task"]))
    print(json.dumps(attrs.asdict(sample)))


if __name__ == "__main__":
    main(sys.argv[1])
