"""Stock kombu's redis channel without a server: how it names, writes and reads things."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# By name: kombu has no types.
Channel: Any = import_module("kombu.transport.redis").Channel
Message: Any = import_module("kombu.transport.virtual.base").Message
kombu_json: Any = import_module("kombu.utils.json")

TAG = "0f9d0b1e-5d57-4b8e-8a4b-0c9a1f9e7a11"


class StockChannel(Channel):  # type: ignore[misc]
    """One that was never connected."""

    def __init__(self, **options: Any) -> None:
        self.keyprefix_fanout = "/0."
        for name, value in options.items():
            setattr(self, name, value)

    def _next_delivery_tag(self) -> str:
        return TAG

    def written(self, body: Any, properties: dict[str, Any], exchange: str, routing_key: str) -> bytes:
        """The envelope it publishes for properties under AMQP's names."""
        others = dict(properties)
        named = [others.pop(name, None) for name in ("priority", "content_type", "content_encoding", "headers")]
        message = self.prepare_message(body, *named, others)
        self._inplace_augment_message(message, exchange, routing_key)
        return str(kombu_json.dumps(message)).encode()

    def read(self, raw: bytes) -> Any:
        """The message it makes of an envelope."""
        return Message(kombu_json.loads(raw), channel=self)
