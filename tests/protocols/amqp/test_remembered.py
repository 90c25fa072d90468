"""What the decoder of deliveries remembers of what repeats in them."""

from __future__ import annotations

from kombu_actors.protocols.amqp.deliveries import CACHE_SIZE
from kombu_actors.protocols.amqp.events import MessageDelivered
from tests import support_amqp_server as peer

from .support import engine_with_channel


def test_what_the_decoder_remembers_is_bounded() -> None:
    """Routes, tags and properties that never repeat don't pile up."""
    engine = engine_with_channel()
    for tag in range(1, 3 * CACHE_SIZE):
        engine.receive(
            peer.delivery(1, tag, b"", consumer=f"c{tag}", routing_key=f"k{tag}", properties={"message_id": str(tag)})
        )
    scanner = engine._receiver._scanner
    for cache in (scanner._tags, scanner._routes, scanner._come_once):
        assert 0 < len(cache) <= CACHE_SIZE
    assert not scanner._properties  # none came again
    for _ in range(3):
        engine.receive(peer.delivery(1, 9999, b"", properties={"application_headers": {"big": "x" * 5000}}))
    assert not scanner._properties
    for number in [each for each in range(3 * CACHE_SIZE) for _ in range(2)]:
        engine.receive(peer.delivery(1, 9999, b"", properties={"message_id": str(number)}))
    assert 0 < len(scanner._properties) <= CACHE_SIZE


def test_properties_are_remembered_once_they_repeat() -> None:
    """What came twice is decoded no more; what came once is let go of with its message."""
    engine = engine_with_channel()

    def properties() -> object:
        (event,) = engine.receive(peer.delivery(1, 1, b"", properties={"message_id": "same", "priority": 5}))
        assert isinstance(event, MessageDelivered)
        return event.deliveries[0].properties

    first, second, third = properties(), properties(), properties()
    assert first is not second
    assert second is third
    assert first == second == {"message_id": "same", "priority": 5}
