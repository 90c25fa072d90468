"""What a Redis says: to the login, of itself, of its memory and disk."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence

from .._values.endpoint import Endpoint, LinkOptions
from ..errors import AccessRefused, BrokerUnreachable, ConnectionLost, NotAllowed
from ..transport.redis.dial import open_wire
from ..transport.redis.hello import ask_all
from ._amqp import no_broker
from ._network import Unwell
from .findings import Finding, Verdict

__all__ = ["REDIS_CHECKS", "redis_findings"]

REDIS_CHECKS = ("protocol", "credentials", "role", "database", "server", "clock", "memory", "disk", "limits")
"""What ``redis_findings`` looks at, in order."""
CLOCK_OFF = 2.0
"""Seconds between the clocks from which on that is told: ages of messages and dead letters are off by as much."""
_QUESTIONS = (
    ("TIME",),
    ("INFO", "memory"),
    ("INFO", "persistence"),
    ("INFO", "clients"),
    ("CONFIG", "GET", "maxmemory-policy"),
    ("CONFIG", "GET", "proto-max-bulk-len"),
)


async def redis_findings(endpoint: Endpoint, options: LinkOptions) -> AsyncGenerator[Finding, None]:
    """Log in, and see who is there; raises ``Unwell``."""
    user = f"user {endpoint.userid!r}" if endpoint.userid else "the default user"
    passed = [
        Finding("protocol", Verdict.OK, "it speaks RESP3"),
        Finding("credentials", Verdict.OK, f"{user} is known"),
        Finding("role", Verdict.OK, "it is a primary"),
    ]
    try:
        opened = await open_wire(endpoint, options, role="main")
    except AccessRefused as error:
        yield passed[0]
        raise Unwell("credentials", _said(error), _login_advice(str(error))) from None
    except NotAllowed as error:
        for finding in passed:
            yield finding
        raise Unwell("database", _said(error), "the path of the URL is its number, from 0 on: redis://host/0") from None
    except BrokerUnreachable as error:
        if "replica" in str(error):
            for finding in passed[:2]:
                yield finding
            raise Unwell(
                "role",
                str(error),
                "`redis-cli INFO replication` there names the primary (master_host); where that changes, use sentinel://",
            ) from None
        raise await no_broker(endpoint, error, options.connect_timeout) from None
    for finding in passed:
        yield finding
    yield Finding("database", Verdict.OK, f"number {endpoint.database}")
    yield Finding("server", Verdict.OK, f"Redis {opened.server.version}")
    try:
        before = time.time()
        answers = await ask_all(opened.wire, _QUESTIONS)
        for finding in _of_answers(answers, (before + time.time()) / 2):
            yield finding
    finally:
        opened.wire.kill(ConnectionLost("the examination is over"))


def _of_answers(answers: Sequence[object], now: float) -> Iterator[Finding]:
    clock, memory, disk, clients, policy, bulk = answers
    yield _clock(clock, now)
    yield _memory(_figures(memory), _setting(policy))
    yield _disk(_figures(disk))
    known = _figures(clients)
    most = _setting(bulk)
    size = f"; values of at most {int(most) // 2**20} MiB (proto-max-bulk-len)" if most and most.isdigit() else ""
    room = f"{known.get('connected_clients', '?')} of {known.get('maxclients', '?')} clients"
    yield Finding("limits", Verdict.OK, f"{room}{size}")


def _clock(answer: object, now: float) -> Finding:
    if not isinstance(answer, list) or len(answer) != 2:
        return Finding("clock", Verdict.WARNING, f"it doesn't tell its time ({answer})", "let the user call TIME")
    off = int(answer[0]) + int(answer[1]) / 1e6 - now
    if abs(off) > CLOCK_OFF:
        word = "ahead of" if off > 0 else "behind"
        return Finding(
            "clock",
            Verdict.WARNING,
            f"its clock is {abs(off):.1f} s {word} this machine's",
            "have both keep time (NTP)",
        )
    return Finding("clock", Verdict.OK, f"within {CLOCK_OFF:g} s of this machine's")


def _memory(known: Mapping[str, str], policy: str | None) -> Finding:
    policy = policy or known.get("maxmemory_policy")
    used, most = known.get("used_memory_human", "?"), known.get("maxmemory_human", "?")
    text = f"{used} used, of {'what the machine has' if most in ('0B', '?') else most}; maxmemory-policy {policy}"
    if policy not in (None, "noeviction"):
        return Finding(
            "memory",
            Verdict.WARNING,
            text,
            "a server that evicts keys loses messages when its memory is full: CONFIG SET maxmemory-policy noeviction",
        )
    return Finding("memory", Verdict.OK, text)


def _disk(known: Mapping[str, str]) -> Finding:
    if known.get("loading") == "1":
        return Finding("disk", Verdict.WARNING, "it is loading its data", "wait")
    if known.get("aof_enabled") == "1":
        return Finding("disk", Verdict.OK, "an append-only file is kept")
    return Finding(
        "disk",
        Verdict.WARNING,
        "no append-only file is kept",
        "a crash or restart of Redis loses messages since its last snapshot: CONFIG SET appendonly yes",
    )


def _figures(answer: object) -> dict[str, str]:
    text = answer.decode(errors="replace") if isinstance(answer, bytes) else ""
    return dict(re.findall(r"^(\w+):(.*?)\r?$", text, re.MULTILINE))


def _setting(answer: object) -> str | None:
    """The value of CONFIG GET, which services often refuse."""
    if isinstance(answer, dict) and answer:
        value = next(iter(answer.values()))
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return None


def _said(error: Exception) -> str:
    return str(getattr(error, "message", None) or getattr(error, "reply_text", None) or error)


def _login_advice(text: str) -> str:
    if "NOPERM" in text or "may not" in text:
        return "its ACL (ACL LIST) must allow that to this user"
    return (
        "user and password as they are at the server (requirepass, or ACL LIST)? What is special in a URL has to be"
        " percent-encoded (urllib.parse.quote(password, safe=''))"
    )
