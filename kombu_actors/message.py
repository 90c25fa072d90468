"""Received messages: their body, what is known about them, and the one decision about them."""

from __future__ import annotations

from ._facade.message import Message

__all__ = ["Message"]
