"""Which connections are to the same broker: those that surely are."""

from __future__ import annotations

from typing import Any

import pytest

from kombu_actors._values.endpoint import parse_url
from kombu_actors.actors.sharing import BrokerIdentity, identity


class Answering:
    """A link, as far as its broker's name goes."""

    def __init__(self, cluster: str | None) -> None:
        self.server_properties: dict[str, Any] = {} if cluster is None else {"cluster_name": cluster}


def seen(cluster: str | None, *urls: str, prefix: str = "") -> BrokerIdentity:
    endpoints = [parse_url(url) for url in urls]
    link: Any = Answering(cluster)
    return identity(link, endpoints[0], endpoints, {"global_keyprefix": prefix} if prefix else {})


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (seen("c", "amqp://a"), seen("c", "amqp://a"), True),
        (seen("c", "amqp://a:5672"), seen("c", "amqp://a:9999"), True),  # through a proxy
        (seen("c", "amqp://a", "amqp://b"), seen("c", "amqp://b"), True),  # by another node
        (seen("c", "amqp://a"), seen("c", "amqp://b"), False),  # perhaps: nobody can tell
        (seen("c", "amqp://a:1"), seen("d", "amqp://a:2"), False),
        (seen("c", "amqp://a/v"), seen("c", "amqp://a/w"), False),
        (seen(None, "redis://a/0"), seen(None, "redis://a:6379/0"), True),
        (seen(None, "redis://a/0"), seen(None, "redis://a/0"), True),
        (seen(None, "redis://a/0"), seen(None, "redis://a/1"), False),
        (seen(None, "redis://a/0"), seen(None, "redis://a/0", prefix="p"), False),
        (seen(None, "redis://a:1/0"), seen(None, "redis://a:2/0"), False),
        (seen(None, "memory://one"), seen(None, "memory://two"), False),
    ],
)
def test_only_what_is_surely_the_same_broker_is(one: BrokerIdentity, other: BrokerIdentity, same: bool) -> None:
    """A name in common is not enough, as clusters of different places may have the same; a host must be, too."""
    assert one.is_same(other) is other.is_same(one) is same
