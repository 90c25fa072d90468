"""Every option of kombu's is understood; what is misspelt or can't work is refused by name."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

from kombu_actors.protocols.redis.layout import Layout
from kombu_actors.protocols.redis.options import KNOWN, UNUSED, RedisOptions, understood

# By name: kombu has no types.
stock: Any = import_module("kombu.transport.redis")
Channel, SentinelChannel = stock.Channel, stock.SentinelChannel
KOMBUS = {
    *import_module("kombu.transport.virtual").Channel.from_transport_options,
    *SentinelChannel.from_transport_options,
    *("polling_interval", "reauth_check_interval"),
}


def test_every_option_of_kombus_is_known() -> None:
    """Those that its transport reads by name beside its table included."""
    assert KOMBUS <= KNOWN
    assert UNUSED.keys() <= KOMBUS


@pytest.mark.parametrize("name", sorted(KOMBUS))
def test_kombus_defaults_are_taken(name: str) -> None:
    """What kombu itself would use may be written out."""
    default = getattr(SentinelChannel, name, None)
    RedisOptions.from_mapping({name: default})


def test_the_defaults_are_kombus() -> None:
    """Or the fleets would not find each other's queues."""
    options = RedisOptions.from_mapping({})
    assert options == RedisOptions()
    for name in ("sep", "global_keyprefix", "unacked_key", "unacked_index_key", "fanout_patterns"):
        assert getattr(options.layout, name) == getattr(Channel, name)
    assert list(options.layout.priority_steps) == Channel.priority_steps
    assert options.layout.fanout_prefix == Channel.keyprefix_fanout
    for name in ("visibility_timeout", "queue_order_strategy", "body_encoding", "deadletter_queue"):
        assert getattr(options, name) == getattr(Channel, name)


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        ({"visibility_timeout": 3}, "visibility_timeout", 3.0),
        ({"visibility_timeout": "43200"}, "visibility_timeout", 43200.0),
        ({"lease": 0.5}, "lease", 0.5),
        ({"visibility_timeout": 3}, "lease", 3.0),
        ({"visibility_timeout": 60}, "lease", 15.0),
        ({"body_encoding": None}, "body_encoding", None),
        ({"body_encoding": "none"}, "body_encoding", None),
        ({"body_encoding": "utf-8"}, "body_encoding", "utf-8"),
        ({"durable_fanout": "true"}, "durable_fanout", True),
        ({"confirm_replicas": "2"}, "confirm_replicas", 2),
        ({"prefetch_limit": 10}, "prefetch_limit", 10),
        ({"prefetch_limit": None}, "prefetch_limit", 1000),
        ({"priority_steps": range(10)}, "layout", Layout(priority_steps=tuple(range(10)))),
        ({"priority_steps": "0, 5"}, "layout", Layout(priority_steps=(0, 5))),
        ({"priority_order": "amqp"}, "layout", Layout(priority_order="amqp")),
        ({"fanout_prefix": True}, "layout", Layout()),
        ({"fanout_prefix": False}, "layout", Layout(fanout_prefix="")),
        ({"fanout_prefix": "/x."}, "layout", Layout(fanout_prefix="/x.")),
        ({"global_keyprefix": "app:"}, "layout", Layout(global_keyprefix="app:")),
        ({"fanout_patterns": "0"}, "layout", Layout(fanout_patterns=False)),
        ({"ack_emulation": False, "unacked_mutex_expire": 5}, "layout", Layout()),
        ({"confirm_publish": True, "max_retries": 3, "client_properties": {}}, "layout", Layout()),
    ],
    ids=str,
)
def test_options_become_values(given: dict[str, Any], field: str, value: Any) -> None:
    """Text too, as a URL's query has it."""
    assert getattr(RedisOptions.from_mapping(given), field) == value


def test_text_becomes_what_dialling_wants() -> None:
    """Options that others read are turned into values for them."""
    given = {"socket_timeout": "2.5", "socket_keepalive": "yes", "min_other_sentinels": "1", "master_name": "m"}
    assert understood({**given, "client_name": None}) == {
        "socket_timeout": 2.5,
        "socket_keepalive": True,
        "min_other_sentinels": 1,
        "master_name": "m",
    }


def test_names_depend_on_the_database() -> None:
    """Pub/Sub knows none."""
    assert RedisOptions().layout_in(7).topic("x") == b"/7.x"


@pytest.mark.parametrize(
    ("given", "taught"),
    [
        ({"visibilty_timeout": 3}, "'visibilty_timeout'.*did you mean 'visibility_timeout'"),
        ({"global_key_prefix": "x"}, "did you mean 'global_keyprefix'"),
        ({"zzz": 1}, "'zzz'.*visibility_timeout"),
        ({7: 1}, "7"),
        ({"visibility_timeout": 0}, "visibility_timeout must be a number of seconds above 0, not 0"),
        ({"visibility_timeout": True}, "visibility_timeout must be a number"),
        ({"visibility_timeout": "soon"}, "visibility_timeout must be a number, not 'soon'"),
        ({"visibility_timeout": float("nan")}, "visibility_timeout"),
        ({"visibility_timeout": float("inf")}, "visibility_timeout"),
        ({"lease": 20, "visibility_timeout": 10}, r"lease must not be above visibility_timeout \(10 s\)"),
        ({"queue_order_strategy": "fair"}, "round_robin, sorted, priority"),
        ({"priority_order": "up"}, "kombu, amqp"),
        ({"priority_steps": 3}, "priority_steps"),
        ({"priority_steps": [0, "x"]}, "priority_steps"),
        ({"priority_steps": [3, 0]}, "ascending"),
        ({"priority_steps": []}, "ascending"),
        ({"body_encoding": "rot13"}, "base64"),
        ({"fanout_patterns": "maybe"}, "True or False"),
        ({"fanout_prefix": 7}, "fanout_prefix"),
        ({"fanout_prefix": "/{x}."}, "fanout_prefix.*{db}"),
        ({"sep": ""}, "sep"),
        ({"deadletter_queue": ""}, "deadletter_queue"),
        ({"global_keyprefix": b"x"}, "global_keyprefix must be text"),
        ({"confirm_replicas": -1}, "whole number from 0"),
        ({"confirm_replicas": 1.5}, "whole number from 0"),
        ({"prefetch_limit": 0}, "whole number from 1"),
        ({"sentinel_fanout_compat": True}, "sentinel_fanout_compat.*5.4"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_with_what_can(given: dict[str, Any], taught: str) -> None:
    """The option, what it was, what it may be."""
    with pytest.raises(ValueError, match=taught):
        RedisOptions.from_mapping(given)
