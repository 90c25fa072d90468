"""What this machine allows a process."""

from __future__ import annotations

import resource

from .findings import Finding, Verdict

__all__ = ["open_files_finding"]

FILES_MIN = 1024
"""Open files with which a process of a fleet does: a few connections, and what its handlers open."""


def open_files_finding() -> Finding:
    """How many files, sockets included, a process started from here may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = "any number" if hard == resource.RLIM_INFINITY else str(hard)
    if soft != resource.RLIM_INFINITY and soft < FILES_MIN:
        return Finding(
            "open files",
            Verdict.WARNING,
            f"{soft} at most (ulimit -n), connections included",
            f"raise it: ulimit -n, or LimitNOFILE= in the unit; {most} is allowed",
        )
    return Finding("open files", Verdict.OK, f"{soft} at most (ulimit -n; {most} is allowed)")
