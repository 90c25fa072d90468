"""Why some of kombu's public names are not here, and what takes their place.

Whether a name is missing is looked up; this says why.  A test holds it against stock kombu: every public name that is
missing has its reason.
"""

from __future__ import annotations

from collections.abc import Mapping

_TRANSPORTS = "transports are AMQP 0-9-1, Redis and memory"
_INSIDE = "a part of kombu's own transports, which are not used here"

MODULES: Mapping[str, str] = {
    "asynchronous.aws": "for SQS; " + _TRANSPORTS,
    "asynchronous.http": "an HTTP client for kombu's event loop: use httpx or another",
    "transport.redis": _INSIDE + "; what programs may set are transport_options (docs/redis.md)",
    "transport.memory": _INSIDE,
    "transport.virtual": _INSIDE,
    "transport.pyamqp": _INSIDE,
    "transport.base": _INSIDE,
    "transport": _TRANSPORTS,
    "utils.scheduling": "fairness of polling among kombu's virtual queues; consumers are woken one by one here",
}
"""By module, below ``kombu``; a name has the reason of the nearest one."""

MEMBERS: Mapping[str, str] = {
    "LRUCache.fromkeys": "inherited there from a dict; a cache is no dict here",
}
"""By class and member."""


def missing_reason(name: str) -> str:
    """Why a name is not here; empty for a member that nothing is known of."""
    parts = name.split(".")
    if why := MEMBERS.get(".".join(parts[-2:])):
        return why
    for end in range(len(parts), 1, -1):
        if why := MODULES.get(".".join(parts[1:end]), ""):
            return why
    return ""
