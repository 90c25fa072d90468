"""What ``transport_options`` say about dialling Redis, under kombu's (redis-py's) names, checked whole."""

from __future__ import annotations

import difflib
import socket
from collections.abc import Mapping
from typing import Final

import attrs

from ..._values.endpoint import LinkOptions
from ..._values.tls_settings import ALIASES, TLSSettings, tls_settings
from ...errors import InvalidURL

__all__ = ["DialOptions", "SentinelOptions", "pulse_interval"]

NO_MEANING: Final = frozenset(
    {"db", "decode_responses", "encoding", "encoding_errors", "health_check_interval", "lib_name", "lib_version"}
    | {"max_connections", "protocol", "retry", "retry_on_error", "retry_on_timeout", "socket_read_size"}
)
"""redis-py's arguments that ``sentinel_kwargs`` may have and that ask for nothing here."""


def _seconds(name: str, value: object) -> float | None:
    """A number of seconds above 0; None for not given (redis-py takes 0 for 'at once', which can't work)."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise InvalidURL(f"transport option {name} must be a number of seconds above 0, not {value!r:.40}")
    return float(value)


def _text(name: str, value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise InvalidURL(f"transport option {name} must be text, not {type(value).__name__}")
    return value


def _client_name(value: object) -> str | None:
    name = _text("client_name", value)
    if name is not None and not (name.isascii() and name.isprintable() and " " not in name):
        raise InvalidURL("transport option client_name must be visible ASCII without spaces (Redis takes nothing else)")
    return name


def _socket_options(value: object) -> dict[int, int]:
    """Options of TCP by number, as ``socket.TCP_KEEPIDLE``, or by that name."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidURL("transport option socket_keepalive_options must be a dict, e.g. {socket.TCP_KEEPIDLE: 60}")
    taken = {}
    for key, number in value.items():
        option = getattr(socket, key, None) if isinstance(key, str) and key.startswith("TCP_") else key
        if type(option) is bool or not isinstance(option, int) or not isinstance(number, int):
            raise InvalidURL(
                f"transport option socket_keepalive_options: {key!r:.40}: {number!r:.40} is no socket option;"
                " write e.g. {socket.TCP_KEEPIDLE: 60}"
            )
        taken[int(option)] = int(number)
    return taken


@attrs.frozen(kw_only=True)
class SentinelOptions:
    """How to speak to the sentinels themselves, which have users, passwords and TLS of their own."""

    userid: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    tls: TLSSettings | None = None

    @classmethod
    def understood(cls, given: object) -> SentinelOptions:
        """Understand ``sentinel_kwargs``: redis-py's ``username``, ``password``, ``ssl`` and ``ssl_...``.

        Raises:
            InvalidURL: something else is among them, or a value can't be used.
        """
        if given is None:
            return cls()
        if not isinstance(given, Mapping):
            raise InvalidURL(f"transport option sentinel_kwargs must be a dict, not {type(given).__name__}")
        secured = {key: value for key, value in given.items() if str(key).startswith("ssl_")}
        known = ("username", "password", "ssl", *(key for key in ALIASES if key.startswith("ssl_")))
        for key in given:
            if key not in (*known, *secured, *NO_MEANING) and not str(key).startswith("socket_"):
                close = difflib.get_close_matches(str(key), known, 1)
                meant = f" (did you mean {close[0]}?)" if close else ""
                raise InvalidURL(f"unknown key {key!r:.40} in sentinel_kwargs{meant}; known: {', '.join(known)}")
        try:
            tls = (
                tls_settings({**secured})
                if secured and given.get("ssl", True) is True
                else (tls_settings(given.get("ssl")))
            )
        except (TypeError, ValueError) as error:
            raise InvalidURL(f"sentinel_kwargs: {error}") from error
        return cls(
            userid=_text("sentinel_kwargs['username']", given.get("username")),
            password=_text("sentinel_kwargs['password']", given.get("password")),
            tls=tls,
        )


@attrs.frozen(kw_only=True)
class DialOptions:
    """All that dialling needs to know; options that concern other things are left to others."""

    client_name: str | None = None
    socket_timeout: float | None = None
    socket_connect_timeout: float | None = None
    socket_keepalive: bool = True
    """On unless turned off: it costs nothing, and finds peers that vanished."""
    socket_keepalive_options: Mapping[int, int] = attrs.field(factory=dict)
    health_check_interval: float | None = None
    master_name: str | None = None
    min_other_sentinels: int = 0
    sentinel: SentinelOptions = SentinelOptions()

    @classmethod
    def understood(cls, given: Mapping[str, object]) -> DialOptions:
        """Pick them out of ``transport_options``.

        Raises:
            InvalidURL: a value can't be used.
        """
        others = given.get("min_other_sentinels") or 0
        if isinstance(others, bool) or not isinstance(others, int) or others < 0:
            raise InvalidURL(f"transport option min_other_sentinels must be a number from 0 on, not {others!r:.40}")
        keepalive = given.get("socket_keepalive")
        if keepalive is not None and not isinstance(keepalive, bool):
            raise InvalidURL(f"transport option socket_keepalive must be True or False, not {keepalive!r:.40}")
        # kombu's users turn health checks off with 0.
        interval = given.get("health_check_interval") or None
        return cls(
            client_name=_client_name(given.get("client_name")),
            socket_timeout=_seconds("socket_timeout", given.get("socket_timeout")),
            socket_connect_timeout=_seconds("socket_connect_timeout", given.get("socket_connect_timeout")),
            socket_keepalive=keepalive is not False,
            socket_keepalive_options=_socket_options(given.get("socket_keepalive_options")),
            health_check_interval=_seconds("health_check_interval", interval),
            master_name=_text("master_name", given.get("master_name")),
            min_other_sentinels=others,
            sentinel=SentinelOptions.understood(given.get("sentinel_kwargs")),
        )


def pulse_interval(options: LinkOptions) -> float:
    """Seconds for ``RedisWire.run_pulse``, out of a link's options; 0 for no pulse.

    ``heartbeat``, or less when ``health_check_interval`` asks for it, or ``socket_timeout``: a server
    that owes an answer is given up after at most that many seconds.
    """
    dialling = DialOptions.understood(options.transport_options)
    wishes = [options.heartbeat, dialling.health_check_interval, (dialling.socket_timeout or 0) / 2]
    return min((wish for wish in wishes if wish), default=0.0)
