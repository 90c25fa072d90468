"""What is published to a queue that was made for its answers, and is gone, doesn't stay for ever."""

from __future__ import annotations

import pytest

from kombu_actors.protocols.redis.publish_calls import Code

from .member import Member

HOUR = 3600


@pytest.fixture
def member(client: object) -> Member:
    return Member(client).join()


@pytest.mark.parametrize("kind", [{"exclusive": True}, {"auto_delete": True}, {"arguments": {"x-expires": 60_000}}])
def test_a_late_reply_expires(member: Member, kind: dict[str, object]) -> None:
    """Unless the queue is declared again: then it's the queue's, as at any time."""
    member.queue("replies", **kind)  # type: ignore[arg-type]
    member.delete_queue("replies")
    assert member.publish("replies", b"late", priority=9) is Code.ACCEPTED
    assert 0 < member.client.ttl("replies\x06\x169") <= HOUR
    member.queue("replies", **kind)  # type: ignore[arg-type]
    assert member.client.ttl("replies\x06\x169") == (60 if "arguments" in kind else -1)
    assert member.bodies("replies") == [b"late"]


def test_a_durable_queue_of_somebody_keeps_what_comes(member: Member) -> None:
    """Stock consumers leave no trace while their queue is empty."""
    member.queue("work")
    member.delete_queue("work")
    member.publish("work", b"kept")
    assert member.client.ttl("work") == -1


def test_a_name_that_we_made_up_is_gone_with_its_queue(member: Member) -> None:
    """Nobody can be meant; who asks for it hears that."""
    name = "amq.gen-0123456789abcdef"
    assert member.publish(name, b"late") is Code.NO_ROUTE
    assert member.publish(name, b"late", mandatory=True) is Code.NO_ROUTE
    assert member.client.exists(name) == 0
