"""Sending and receiving messages."""

from __future__ import annotations

from ._facade.consumer import Consumer
from ._facade.exchange import Exchange
from ._facade.producer import Producer
from ._facade.queue import Queue

__all__ = ["Consumer", "Exchange", "Producer", "Queue"]
