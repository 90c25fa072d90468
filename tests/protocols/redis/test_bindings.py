"""Bindings are written as stock kombu reads them."""

from __future__ import annotations

import datetime
from importlib import import_module
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kombu_actors.protocols.redis.bindings import arguments_text, key_to_pattern

# By name: kombu has no types.
TopicExchange: Any = import_module("kombu.transport.virtual.exchange").TopicExchange


@given(st.text(max_size=30) | st.text("ab.#*\0^$é-", max_size=12))
@example("")
@example("#.*.a")
@example("a\0b")
def test_the_pattern_of_a_topic_key_is_kombus(key: str) -> None:
    """Text for text: it is part of the member that kombu adds and removes."""
    assert key_to_pattern(key) == TopicExchange(None).key_to_pattern(key)


def test_equal_arguments_are_equal_texts() -> None:
    """They are part of a binding's identity."""
    assert arguments_text({"b": 1, "a": [True, None]}) == arguments_text({"a": (True, None), "b": 1})
    assert arguments_text({"b": 1}) != arguments_text({"b": 1.0})
    assert arguments_text({}) == "{}"
    assert "2026" in arguments_text({"t": datetime.datetime(2026, 1, 1)})
    with pytest.raises(ValueError, match="arguments"):
        arguments_text({"a": object()})
