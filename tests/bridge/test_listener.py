"""What rings for an event loop is heard: no news wait for a loop that sleeps."""

from __future__ import annotations

import os
import select

import pytest

from kombu_actors._bridge import listener as module
from kombu_actors._bridge.listener import Listener


def readable(listener: Listener) -> bool:
    """Whether a loop would wake."""
    return bool(select.select([listener.descriptor], [], [], 0)[0])


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_ring_while_another_is_heard_silences_no_later_one(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread rings just before, or after, the file is read: it is heard by who looks for news then, and
    whoever rings next wakes the loop again."""
    listener = Listener()

    def read(descriptor: int) -> int:
        if when == "before":
            listener.ring()
        value = os.eventfd_read(descriptor)
        if when == "after":
            listener.ring()
        return value

    listener.ring()
    assert readable(listener)
    with monkeypatch.context() as patch:
        patch.setattr(module, "os", _Os(read))
        listener.hear()
    if readable(listener):
        listener.hear()  # at worst for nothing
    assert not readable(listener)
    listener.ring()
    assert readable(listener)


class _Os:
    """``os``, where another thread comes in between."""

    def __init__(self, read: object) -> None:
        self.eventfd_read = read

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)
