"""The first words with a Redis server: who we are, what it is, whether it will do.

The judgements are functions of its answers; no answer is ever raised or chained, since old servers repeat
the password in theirs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import attrs
from amqp import exceptions as amqp_errors

from ...errors import BrokerUnreachable, HandshakeFailed
from .._tls import explain_tls
from .cluster import QUESTIONS, owner_of
from .errors import NOT_TAKEN, ErrorReply
from .replies import BadReply
from .wire import Argument, RedisWire

__all__ = [
    "Introduction",
    "Server",
    "ask_all",
    "check_answered",
    "cut_short",
    "greet",
    "refused_login",
]

OLDEST: Final = (6, 2)
"""The oldest version taken: what the scripts use (ZADD GT, GETDEL, LMOVE's relatives) came with it."""


@attrs.frozen(kw_only=True)
class Server:
    """What a server said about itself."""

    version: str
    client_id: int
    """The number it gave this connection (CLIENT ID)."""
    run_id: str
    """Which run of the server it is; empty when we may not know (``INFO`` needs a permission)."""
    elsewhere: tuple[str, int] | None = None
    """The node of its cluster that has our keys, if it isn't this one."""


@attrs.frozen(kw_only=True)
class Introduction:
    """What we say to a server."""

    where: str
    name: str
    db: int
    host: str = ""
    """Whom we have dialled."""
    slot: int | None = None
    """Where in a cluster our keys are; None if they are in many places."""
    userid: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    credentials: str = "redis://:password@... or redis://user:password@..."
    """How to give credentials, for those who forgot."""

    @property
    def who(self) -> str:
        """The user as errors name it."""
        return f"user {self.userid!r}" if self.userid else "the default user"


async def ask_all(wire: RedisWire, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
    """Send all commands at once over a wire that nobody serves yet; return the answers.

    Errors are among them as values, and so is the wire's death, in place of the rest.
    """
    answers: list[object] = []
    for command in commands:
        wire.send(command, answers.append)
    await wire.converse()
    return answers


def check_answered(*answers: object) -> None:
    """Raise the death of the wire, if that is among the answers."""
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, ErrorReply):
            raise answer.with_traceback(None)


async def greet(wire: RedisWire, we: Introduction) -> Server:
    """Log in, choose the database, and make sure that this server can be worked with.

    Raises:
        BrokerUnreachable: it is a replica, is loading, or has no room: ask again, or another.
        HandshakeFailed: it is no such server as is needed (version, cluster, Sentinel).
        amqp.exceptions.AccessRefused: it doesn't know us, or we may not do what is needed (403).
        amqp.exceptions.NotAllowed: it has no such database (530).
        ConnectionLost: the wire died over it.
    """
    hello: list[Argument] = ["HELLO", 3]
    if we.userid or we.password:
        hello += ["AUTH", we.userid or "default", we.password or ""]
    hello += ["SETNAME", we.name]
    select = [("SELECT", we.db)] if we.db else []
    commands: list[tuple[Argument, ...]] = [("PING",), ("INFO", "server"), *select]
    answers: list[Any] = []
    for command in (tuple(hello), *commands):
        wire.send(command, answers.append)
    await wire.converse(owed=len(commands))  # who answers in another way than a server will do may not answer the rest
    said = answers[0]
    _judge_hello(said, we)
    await wire.converse()
    _, pong, info, *selected = answers
    check_answered(pong, info, *selected)
    for answer in selected:
        _judge_select(answer, we)
    if isinstance(pong, ErrorReply) and pong.code in ("LOADING", "MASTERDOWN"):
        raise BrokerUnreachable(f"{we.where} is not ready yet: {pong.text}")
    elsewhere = None
    if said.get(b"mode") == b"cluster" and we.slot is not None:
        nodes = await ask_all(wire, QUESTIONS)
        check_answered(*nodes)
        elsewhere = owner_of(we.slot, *nodes, where=we.where, host=we.host)
    run_id = re.search(rb"run_id:(\w+)", info) if isinstance(info, bytes) else None
    return Server(
        version=said[b"version"].decode(errors="replace"),
        client_id=said[b"id"],
        run_id=run_id[1].decode() if run_id else "",
        elsewhere=elsewhere,
    )


def _judge_hello(said: object, we: Introduction) -> None:
    if isinstance(said, ErrorReply):
        raise refused_login(said, we)
    check_answered(said)
    if not isinstance(said, dict) or not isinstance(said.get(b"id"), int) or said.get(b"proto") != 3:
        raise HandshakeFailed(f"{we.where} speaks RESP, but not version 3: Redis 6.2 or newer is needed")
    version = bytes(said.get(b"version", b""))
    numbers = re.match(rb"(\d+)\.(\d+)", version)
    if numbers is not None and (int(numbers[1]), int(numbers[2])) < OLDEST:
        raise HandshakeFailed(f"{we.where} is Redis {version.decode()}; 6.2 or newer is needed")
    if said.get(b"mode") == b"cluster":
        if we.slot is None:
            raise HandshakeFailed(
                f"{we.where} is a node of a Redis Cluster, where all keys of a connection must share one slot: give"
                " them a hash tag by transport option global_keyprefix, e.g. '{orders}.', the same for all who share"
                " queues; or use a standalone server, or a Sentinel group (sentinel://)"
            )
        return  # a replica knows who has the keys, as the primaries do
    if said.get(b"mode") == b"sentinel":
        raise HandshakeFailed(
            f"{we.where} is a Sentinel, not a server: use sentinel://, with transport option master_name"
        )
    if said.get(b"role") != b"master":
        raise BrokerUnreachable(f"{we.where} is a replica, which takes no messages: dial its primary")


def refused_login(said: ErrorReply, we: Introduction) -> Exception:
    """What an error in answer to HELLO or AUTH means."""
    text = _without(we.password, said.text)
    if said.code == "WRONGPASS" or "invalid password" in text:
        return _access_refused(f"{we.where} refused {we.who}: wrong password, no such user, or it is turned off")
    if "without any password configured" in text:
        return _access_refused(f"{we.where} has no password, but one was given: {we.credentials}")
    if said.code == "NOAUTH":
        return _access_refused(f"{we.where} wants a password, and none was given: {we.credentials}")
    if said.code == "DENIED":
        return _access_refused(
            f"{we.where} is in protected mode: it has no password, and takes connections from its own machine only"
        )
    if said.code == "NOPERM":
        return _access_refused(f"{we.where} refused {we.who}: {text}")
    if said.code == "NOPROTO":
        return HandshakeFailed(f"{we.where} doesn't speak RESP3: Redis 6.2 or newer is needed")
    if NOT_TAKEN.search(text):  # and such servers repeat what they were told: nothing of it is shown
        return HandshakeFailed(
            f"{we.where} doesn't take HELLO: Redis 6.2 or newer is needed, with nothing before it that blocks HELLO 3"
        )
    return BrokerUnreachable(f"{we.where} refused to serve us: {text}")


def _judge_select(answer: object, we: Introduction) -> None:
    if not isinstance(answer, ErrorReply):
        return
    if answer.code == "NOPERM":
        raise _access_refused(f"{we.where}: {we.who} may not SELECT database {we.db}: {answer.text}")
    if answer.code == "ERR":
        no_database: Exception = amqp_errors.NotAllowed(
            f"NOT_ALLOWED - {we.where} has no database {we.db} ({answer.text});"
            " its setting `databases` says how many there are",
            reply_code=530,
        )
        raise no_database
    raise BrokerUnreachable(f"{we.where} refused database {we.db}: {answer.text}")


def cut_short(where: str, host: str, reason: BaseException, *, tls: bool, phase: str) -> Exception:
    """What it means that a wire died in its handshake."""
    cause = reason.__cause__
    if isinstance(cause, BadReply):
        return HandshakeFailed(f"{where} doesn't speak Redis's protocol: it sent {cause}")
    explained = explain_tls(cause, host) if cause is not None else None
    if explained is not None:
        return HandshakeFailed(f"{where}: {explained}")
    hint = (
        ": does it want a TLS client certificate (ssl_certfile, ssl_keyfile)?"
        if tls
        else ": is it a TLS port (then use rediss://, or ssl=), or no Redis server?"
    )
    detail = f" ({cause})" if cause is not None and str(cause) else ""
    return HandshakeFailed(f"{where} closed the connection during the handshake, {phase}{detail}{hint}")


def _access_refused(text: str) -> Exception:
    refused: Exception = amqp_errors.AccessRefused(f"ACCESS_REFUSED - {text}", reply_code=403)
    return refused


def _without(secret: str | None, text: str) -> str:
    return text.replace(secret, "**") if secret else text
