"""Publishes that were refused while nobody waited for them: whom that is told to."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from amqp.exceptions import AMQPError

from ._model import RefusedPublish
from ._portal import Portal
from .errors import KombuError
from .protocols.ledger import Entry

logger = logging.getLogger("kombu_actors.refused")

KEPT = 64
"""Refusals that a channel keeps for its next call: it raises the first, and says how many there are."""

ContentOf = Callable[[Any], tuple[Mapping[str, Any], bytes]]


class Refusals:
    """Those of one channel.  The next call on it raises, as kombu's does; ``hook`` is told of each at once."""

    def __init__(self, portal: Portal, content_of: ContentOf, hook: Callable[[RefusedPublish], object] | None) -> None:
        self._portal = portal
        self._content_of = content_of
        self._hook = hook
        self._waiting: deque[tuple[Entry, BaseException]] = deque(maxlen=KEPT)

    def put(self, entry: Entry, error: BaseException, *, fatal: bool) -> None:
        """One more; runtime thread.  ``fatal``: the broker ended the channel over it, which its next call shall say."""
        if fatal:
            self._waiting.append((entry, error))
        if self._hook is not None:
            properties, body = self._content_of(entry.prepared)
            refused = RefusedPublish(
                exchange=entry.exchange, routing_key=entry.routing_key, properties=properties, body=body, error=error
            )
            self._portal.run_in_thread(_call, self._hook, refused)

    def heed(self) -> None:
        """Raise the oldest that no call has raised yet, and forget all."""
        if not self._waiting:
            return
        entry, error = self._waiting.popleft()
        count = len(self._waiting)
        self._waiting.clear()
        others = f", and {count} more after it (see the log)" if count else ""
        raise _told_later(
            error,
            f"{getattr(error, 'reply_text', None) or error} [told late: this is about an earlier publish on this "
            f"channel, to exchange {entry.exchange!r}, routing key {entry.routing_key!r}{others}; the call that raises "
            "this did nothing and may be made again]",
        ) from error


def _told_later(error: BaseException, text: str) -> BaseException:
    if isinstance(error, AMQPError) and not isinstance(error, KombuError):
        again: BaseException = type(error)(text, error.method_sig, error.method_name, error.reply_code)
        return again
    return type(error)(text)


def _call(hook: Callable[[RefusedPublish], object], refused: RefusedPublish) -> None:
    try:
        hook(refused)
    except Exception:
        logger.exception("transport option on_refused: %r raised", hook)
