"""What the exit codes of ``kombu-actors`` mean, to whoever watches over processes."""

from __future__ import annotations

DRAINED = 0
"""Every handler that had begun has finished."""
COLD = 1
"""Handlers were cancelled: ``--drain-timeout`` was over, or a second signal came.  Their messages are back."""
USAGE = 2
"""A wrong flag, a module that can't be imported, a fleet that can't work: starting it again won't help."""
NO_BROKER = 3
"""No broker could be reached, or it refused the login, at the start.  Later it is waited for."""
BUDGET_SPENT = 70
"""Supervision gave up: something failed again and again (the EX_SOFTWARE of sysexits.h)."""
FAILED = 1
"""Of a verb: it was refused, or failed."""
UNHEALTHY = 1
"""Of ``health``: it answers, and isn't READY."""
NOBODY = 69
"""Nobody answers (the EX_UNAVAILABLE of sysexits.h)."""
INTERRUPTED = 130
"""Of a verb: Ctrl-C, as shells count it."""
