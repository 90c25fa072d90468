"""What a Sentinel says: whether it watches the group, who is the primary, and whether that is reached from here."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import attrs

from .._values.endpoint import Endpoint, LinkOptions
from ..errors import AccessRefused, BrokerUnreachable
from ..transport.redis.dial import ask_sentinel
from ._network import Unwell, port_finding
from .findings import Finding, Verdict

__all__ = ["SENTINEL_CHECKS", "sentinel_findings"]

SENTINEL_CHECKS = ("sentinel", "primary")
"""What ``sentinel_findings`` looks at, in order."""
_NAME_ADVICE = "`SENTINEL MASTERS` there lists what it watches: master_name (here --master-name) has to be one of these"
_DEAD_ADVICE = (
    "start the primary again, or a replica for the Sentinels to promote; they promote none while too few of them agree"
    " (`SENTINEL CKQUORUM NAME`)"
)
_REACH_ADVICE = (
    "the address that the Sentinels name has to be one for the clients: behind NAT, or in containers, set"
    " replica-announce-ip and -port at the servers, and name that address in `sentinel monitor`"
)


async def sentinel_findings(endpoint: Endpoint, options: LinkOptions) -> AsyncGenerator[Finding, None]:
    """Ask it for the primary, and connect to that; raises ``Unwell``."""
    try:
        host, port = await ask_sentinel(endpoint, options)
    except AccessRefused as error:
        text = str(getattr(error, "reply_text", None) or error)
        raise Unwell("sentinel", text, "the Sentinels' own password is sentinel_kwargs['password']") from None
    except BrokerUnreachable as error:
        text = str(error)
        advice = _NAME_ADVICE if "no primary named" in text else _DEAD_ADVICE if "for dead" in text else None
        raise Unwell("sentinel", text, advice) from None
    yield Finding("sentinel", Verdict.OK, f"it names {host}:{port} as the primary")
    try:
        reached = await port_finding(endpoint.but(host=host, port=port), options.connect_timeout)
    except Unwell as error:
        raise Unwell("primary", error.finding.text, _REACH_ADVICE) from None
    yield attrs.evolve(reached, check="primary")
