"""Names are kombu's: what one writes, the other finds."""

from __future__ import annotations

import fnmatch
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kombu_actors.protocols.redis.layout import Layout

from .stock import StockChannel

STEPS = st.lists(st.integers(0, 9), min_size=1, max_size=10, unique=True).map(sorted)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=10)

KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


@given(STEPS, NAMES, st.sampled_from(["\x06\x16", ":"]))
def test_a_queue_is_the_lists_that_kombu_takes_it_for(steps: list[int], queue: str, sep: str) -> None:
    """In the order in which kombu serves them; with the global prefix, which kombu's client puts in front."""
    stock = StockChannel(priority_steps=steps, sep=sep)
    layout = Layout(priority_steps=steps, sep=sep, global_keyprefix="app.")
    keys = layout.list_keys(queue)
    assert keys == tuple(f"app.{stock._q_for_pri(queue, step)}".encode() for step in steps)
    backwards = Layout(priority_steps=steps, sep=sep, global_keyprefix="app.", priority_order="amqp")
    assert backwards.list_keys(queue) == keys[::-1]
    assert Layout(priority_steps=steps).serving_order == tuple(steps)


@given(STEPS, st.none() | st.integers(-5, 300) | st.floats(-5, 300) | st.text(max_size=3) | st.booleans() | st.just([]))
def test_a_priority_goes_to_the_step_that_kombu_chooses(steps: list[int], priority: Any) -> None:
    """Clamped to 0..9, to the step at or below it; what is no number is 0."""
    stock = StockChannel(priority_steps=steps)
    wanted = stock.priority(stock._get_message_priority({"properties": {"priority": priority}}))
    for order in ("kombu", "amqp"):
        assert Layout(priority_steps=steps, priority_order=order).step(priority) == wanted


@pytest.mark.parametrize("priority", [float("inf"), float("nan"), None, object()])
def test_a_priority_that_is_no_number_is_0(priority: object) -> None:
    """Where kombu would fail to publish, too."""
    assert Layout().step(priority) == 0


@given(NAMES, KEYS, st.booleans(), st.sampled_from(["/{db}.", "", "/{db}.all."]), st.integers(0, 15))
def test_a_fanout_topic_is_kombus(exchange: str, key: str, patterns: bool, prefix: str, database: int) -> None:
    """What is published there reaches stock subscribers."""
    layout = Layout(fanout_patterns=patterns, fanout_prefix=prefix, database=database, global_keyprefix="p")
    stock = StockChannel(fanout_patterns=patterns, keyprefix_fanout=prefix.format(db=database))
    assert layout.topic(exchange, key) == f"p{stock._get_publish_topic(exchange, key)}".encode()


@given(NAMES, NAMES)
def test_a_fanout_binding_without_key_hears_every_key(exchange: str, key: str) -> None:
    """A fanout exchange asks for no key: what is published with one and without one arrives, each once."""
    layout = Layout()
    patterns = [pattern.decode() for pattern in layout.subscriptions(exchange)]
    for topic in (layout.topic(exchange), layout.topic(exchange, key)):
        heard = [pattern for pattern in patterns if globs(pattern, topic.decode())]
        assert len(heard) == 1
    assert not any(globs(pattern, layout.topic(exchange + "x").decode()) for pattern in patterns)


def globs(pattern: str, text: str) -> bool:
    """Redis's patterns in Python's words: there a backslash takes a letter literally, here brackets do."""
    words = []
    letters = iter(pattern)
    for letter in letters:
        words.append(f"[{next(letters)}]" if letter == "\\" else letter)
    return fnmatch.fnmatchcase(text, "".join(words))


def test_a_binding_key_is_a_pattern_of_pubsub() -> None:
    """``#`` is spelled ``*`` there; without patterns the key is no part of the topic."""
    assert Layout().subscriptions("x", "a.#") == (b"/0.x/a.*",)
    assert Layout(fanout_patterns=False).subscriptions("x", "a.#") == (b"/0.x",)
    assert Layout(fanout_patterns=False).subscriptions("x") == (b"/0.x",)
    assert Layout().subscriptions("a*b[c]?") == (rb"/0.a\*b\[c\]\?", rb"/0.a\*b\[c\]\?/*")


def test_every_script_call_starts_alike() -> None:
    """Three keys, then what the scripts make names of."""
    layout = Layout(global_keyprefix="p.", unacked_key="u", unacked_index_key="i", priority_order="amqp")
    assert layout.common("owner", 1000) == (
        *(b"3", b"p._kombu_actors.", b"p.u", b"p.i"),
        *(b"p.", b"\x06\x16", b"9,6,3,0", b"owner", b"1000"),
    )  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {"sep": ""},
        {"priority_steps": []},
        {"priority_steps": [3, 0]},
        {"priority_steps": [0, 0]},
        {"priority_steps": [-1]},
        {"priority_steps": [True]},
        {"priority_order": "reverse"},
        {"fanout_prefix": "/{database}."},
        {"fanout_prefix": "/{}."},
        {"fanout_prefix": "/{"},
    ],
    ids=str,
)
def test_names_that_cannot_work_are_refused(options: dict[str, Any]) -> None:
    """By the option's name."""
    with pytest.raises(ValueError, match=next(iter(options))):
        Layout(**options)
