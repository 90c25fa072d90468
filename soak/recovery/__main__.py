"""``python -m soak.recovery``: random programs under random faults; see docs/soak.md."""

from __future__ import annotations

import sys

from .campaign import main

sys.exit(main())
