"""Finding out why a broker can't be used: one layer after the other, each with what to do.

``examine(url)`` tries the name, the port, TLS, the protocol, the credentials, the virtual host, permissions, the
server's version, clock and limits, and this machine's.  It stops at the first layer that fails: what is above could
only fail for the same reason.
"""

from __future__ import annotations

from .examining import examine
from .findings import Finding, Verdict

__all__ = ["Finding", "Verdict", "examine"]
