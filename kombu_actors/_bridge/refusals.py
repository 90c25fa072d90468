"""Publishes that were refused while nobody waited for them: whom that is told to."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from amqp.exceptions import AMQPError

from .._logs import get_logger
from .._values.model import RefusedPublish
from ..actors.publisher import WINDOW_BYTES, WINDOW_MESSAGES
from ..errors import KombuError
from ..protocols.ledger import Entry
from .portal import Portal, new_lock

logger = get_logger("kombu_actors.refused")

KEPT = 64
"""Refusals that a channel keeps for its next call: it raises the first, and says how many there are."""

UNTOLD_MESSAGES = WINDOW_MESSAGES
UNTOLD_BYTES = WINDOW_BYTES
"""Refusals that wait for a hook that is slow: as much as can be refused at once, a whole window."""

ContentOf = Callable[..., tuple[Mapping[str, object], bytes]]


class Refusals:
    """Those of one channel.  The next call on it raises, as kombu's does; ``hook`` is told of each at once."""

    def __init__(self, portal: Portal, content_of: ContentOf, hook: Callable[[RefusedPublish], object] | None) -> None:
        self._portal = portal
        self._content_of = content_of
        self._hook = hook
        self._untold: list[RefusedPublish] = []
        self._untold_bytes = 0
        self._telling = False
        """A thread, or a greenlet, is telling the hook."""
        self._lock = new_lock()
        self.waiting: list[tuple[str, str, BaseException]] = []
        """What no call has raised yet: exchange, routing key, error; not the message, which may be large."""

    def put(self, entry: Entry, error: BaseException, *, fatal: bool) -> None:
        """One more; runtime thread.  ``fatal``: the broker ended the channel over it, which its next call shall say."""
        if fatal:
            self.waiting.append((entry.exchange, entry.routing_key, error))
            del self.waiting[:-KEPT]
        if self._hook is not None:
            properties, body = self._content_of(entry.prepared)
            refused = RefusedPublish(
                exchange=entry.exchange, routing_key=entry.routing_key, properties=properties, body=body, error=error
            )
            self._hand_over(refused)

    def _hand_over(self, refused: RefusedPublish) -> None:
        with self._lock:
            if len(self._untold) >= UNTOLD_MESSAGES or self._untold_bytes >= UNTOLD_BYTES:
                logger.error(
                    "transport option on_refused is behind: it is not told of a publish to exchange %r, routing key %r",
                    refused.exchange,
                    refused.routing_key,
                )
                return
            self._untold.append(refused)
            self._untold_bytes += len(refused.body)
            idle, self._telling = not self._telling, True
        if idle:
            self._portal.run_apart(self._tell)

    def _tell(self) -> None:
        while True:
            with self._lock:
                if not self._untold:
                    self._telling = False
                    return
                refused = self._untold.pop(0)
                self._untold_bytes -= len(refused.body)
            try:
                assert self._hook is not None
                self._hook(refused)
            except Exception:
                logger.exception("transport option on_refused: %r raised", self._hook)

    def heed(self) -> None:
        """Raise the oldest that no call has raised yet, and forget all."""
        try:
            exchange, routing_key, error = self.waiting.pop(0)
        except IndexError:
            return  # another thread has just raised it
        count = len(self.waiting)
        self.waiting.clear()
        others = f", and {count} more after it (see the log)" if count else ""
        raise _told_later(
            error,
            f"{getattr(error, 'reply_text', None) or error} [told late: this is about an earlier publish on this "
            f"channel, to exchange {exchange!r}, routing key {routing_key!r}{others}; the call that raises "
            "this did nothing and may be made again]",
        ) from error.with_traceback(None)


def _told_later(error: BaseException, text: str) -> BaseException:
    if isinstance(error, AMQPError) and not isinstance(error, KombuError):
        again: BaseException = type(error)(text, error.method_sig, error.method_name, error.reply_code)
        return again
    return type(error)(text)
