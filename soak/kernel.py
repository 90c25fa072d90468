"""The largest walk over the supervisor's kernel, under every strategy: ``python -m soak.kernel``.

``make test`` has one strategy of it, and all smaller walks (``tests/supervisors/test_kernel.py``).
"""

from __future__ import annotations

import sys
import traceback

from kombu_actors.supervisors import Strategy
from tests.supervisors.exploration import Violation
from tests.supervisors.families import two_static_and_a_dynamic_child


def main() -> int:
    """Walk; 1 when a rule was broken."""
    broken = 0
    reports = []
    for strategy in Strategy:
        try:
            reports.append(f"{strategy.name}: {two_static_and_a_dynamic_child(strategy)}")
        except Violation:
            broken += 1
            reports.append(f"{strategy.name}: broke a rule")
            traceback.print_exc()
        print(reports[-1], flush=True)
    print(f"kernel: {'; '.join(reports)}")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
