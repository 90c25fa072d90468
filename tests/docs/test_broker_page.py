"""``docs/broker.md`` has the whole of the native API: every name, argument and exception."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from kombu_actors import aio, broker, errors
from kombu_actors.broker import Broker, Delivered, MessageProperties, QueueSpec, Subscription, open_broker

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "broker.md").read_text()
WORDS = set(re.findall(r"\w+", PAGE))
INTERNAL = {"Broker.refuse_calls", "Subscription.sink", "Subscription.fail", "Subscription.close"}
"""Public to this package's other parts."""


def arguments_of(function: object) -> set[str]:
    """The names of its arguments; ``self``, ``task_status`` and the like are its language's."""
    assert callable(function)
    return set(inspect.signature(function).parameters) - {"self", "task_status", "properties", "strict", "entities"}


def test_every_name_is_there() -> None:
    """All that ``kombu_actors.broker`` offers; callables' types are in their signatures."""
    types_of_functions = {"Handler", "ErrorHandler", "Key", "StreamOffset"}
    assert set(broker.__all__) - WORDS - types_of_functions == set()


@pytest.mark.parametrize("cls", [Broker, Delivered, Subscription])
def test_every_method_is_there(cls: type) -> None:
    """And every property."""
    names = {name for name, _ in inspect.getmembers(cls) if not name.startswith("_")}
    internal = {name.partition(".")[2] for name in INTERNAL if name.startswith(cls.__name__)}
    assert names - internal - WORDS == set()


@pytest.mark.parametrize("function", [open_broker, Broker.consume, Broker.subscribe, QueueSpec, Broker.publish])
def test_every_argument_is_there(function: object) -> None:
    """Of what has many."""
    assert arguments_of(function) - WORDS == set()
    assert set(MessageProperties.__annotations__) <= WORDS


def test_the_page_of_the_asyncio_api_has_what_differs() -> None:
    """The rest is this page's."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "aio.md").read_text()
    assert arguments_of(aio.open_broker) == arguments_of(open_broker)
    assert arguments_of(aio.Broker.consume) - arguments_of(Broker.consume) == {"started"}
    assert "started" in page
    for name in ("publish", "publish_many", "request", "get", "subscribe", "declare"):
        assert getattr(aio.Broker, name) is getattr(Broker, name), "the same function, with the same words"


def test_every_exception_that_it_names_is_there() -> None:
    """In ``kombu_actors.errors``, with a docstring that says what it means."""
    table = PAGE.partition("## Exceptions")[2]
    named = set(re.findall(r"`([A-Z]\w+)`", table)) - {"ValueError", "TimeoutError"}
    assert {"NotFound", "PublishErrors", "StaleDelivery"} <= named
    assert named <= set(errors.__all__)


def test_every_exception_is_documented_by_itself() -> None:
    """A class's own words, not its parent's; py-amqp's are explained by the module."""
    for name in errors.__all__:
        cls = getattr(errors, name)
        if cls.__module__ == errors.__name__:
            assert vars(cls).get("__doc__"), name
        else:
            assert f"``{name}``" in str(errors.__doc__)
