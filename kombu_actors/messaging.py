"""Sending and receiving messages."""

from __future__ import annotations

from ._consumer import Consumer
from ._exchange import Exchange
from ._producer import Producer
from ._queue import Queue

__all__ = ["Consumer", "Exchange", "Producer", "Queue"]
