"""Kombu's documented API on a supervised trio runtime.

Change ``import kombu`` to ``import kombu_actors``: every connection, channel and consumer
is then a supervised actor.  trio programs use :func:`kombu_actors.broker.open_broker`.

The names are imported from their modules when they are first used, and the runtime with the first ``Connection``.
"""

from __future__ import annotations

import importlib

from ._values import originals as originals  # first: where gevent or eventlet has patched, it imports trio

TYPE_CHECKING = False  # as type checkers know it: importing typing takes longer than all of this
if TYPE_CHECKING:
    from .common import eventloop
    from .connection import BrokerConnection, Connection
    from .entity import Exchange, Queue, binding
    from .message import Message
    from .messaging import Consumer, Producer
    from .pools import connections, producers
    from .serialization import disable_insecure_serializers, enable_insecure_serializers
    from .utils.text import version_info_t
    from .utils.url import parse_url
    from .utils.uuid import uuid

    VERSION: version_info_t
    version_info: version_info_t

__version__ = "0.1.0"
KOMBU = (5, 7, 0, "", "")
"""The version of kombu whose documented names these are: ``VERSION`` and ``version_info``, which programs compare."""

__all__ = [
    "VERSION",
    "BrokerConnection",
    "Connection",
    "Consumer",
    "Exchange",
    "Message",
    "Producer",
    "Queue",
    "binding",
    "connections",
    "disable_insecure_serializers",
    "enable_insecure_serializers",
    "eventloop",
    "parse_url",
    "producers",
    "uuid",
    "version_info",
    "version_info_t",
]

_MODULES = {
    "BrokerConnection": "connection",
    "Connection": "connection",
    "Consumer": "_facade.consumer",
    "Exchange": "_facade.exchange",
    "Message": "_facade.message",
    "Producer": "_facade.producer",
    "Queue": "_facade.queue",
    "binding": "_facade.exchange",
    "connections": "pools",
    "disable_insecure_serializers": "serialization",
    "enable_insecure_serializers": "serialization",
    "eventloop": "common",
    "parse_url": "utils.url",
    "producers": "pools",
    "uuid": "utils.uuid",
    "version_info_t": "utils.text",
}
"""Where each name is at home."""


if not TYPE_CHECKING:  # the type checker has them from above, and must not take misspelt ones for Any

    def __getattr__(name: str) -> object:
        if name in ("VERSION", "version_info"):
            globals().update(VERSION=__getattr__("version_info_t")(*KOMBU))
            globals().update(version_info=globals()["VERSION"])
            return globals()[name]
        module = _MODULES.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(importlib.import_module(f"{__name__}.{module}"), name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
