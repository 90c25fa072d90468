"""Crews of both libraries on one Redis: consumers that work side by side, and what is left when they are done."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from types import TracebackType
from typing import Any, Self

import attrs
import redis

from tests.support.brokers import RedisNode
from tests.support.processes import wait_until

PEERS = ("kombu", "kombu_actors")
MESSAGES = 1000
"""Of each producer in each test about counts."""
PATIENCE = 20.0
"""Seconds until everything must have been handled."""
GLANCE = 0.05
"""Seconds of one ``drain_events``: how soon an idle consumer notices that its crew is dismissed."""

Decide = Callable[[Any], bool]
"""Settles a message; says whether that was for good."""


def ack(message: Any) -> bool:
    """What most consumers do."""
    message.ack()
    return True


@attrs.frozen
class Ground:
    """One Redis database, empty at first, and how the clients of a test use it."""

    url: str
    client: Any
    """redis-py's own, for looking."""
    options: dict[str, Any]
    """The transport options of both fleets."""

    def connect(self, library: str, **options: Any) -> Any:
        """A connection; ours has every publish confirmed, as kombu's publish waits for Redis too."""
        more = {"confirm_publish": True} if library == "kombu_actors" else {}
        return import_module(library).Connection(self.url, transport_options={**self.options, **more, **options})

    def left(self) -> dict[str, int]:
        """Messages that are still somewhere: by list, and those taken but not settled."""
        prefix = self.options.get("global_keyprefix", "")
        lists = [key for key in self.client.scan_iter() if self.client.type(key) == b"list"]
        stored = {key.decode(): self.client.llen(key) for key in lists}
        with self.client.pipeline() as both:  # at one moment
            unacked, indexed = both.hlen(f"{prefix}unacked").zcard(f"{prefix}unacked_index").execute()
        assert unacked == indexed
        return {**stored, **({"unacked": unacked} if unacked else {})}

    def wait_clear(self) -> None:
        """Wait until no message is left: a Celery worker's last word on a task may come after its result."""
        wait_until(lambda: not self.left(), timeout=PATIENCE, waiting_for="every message to be settled")

    def wait_listeners(self, count: int) -> None:
        """Wait until so many connections have subscribed to patterns: stock kombu does so when it first drains."""
        wait_until(
            lambda: sum(int(each["psub"]) > 0 for each in self.client.client_list()) >= count,
            timeout=PATIENCE,
            waiting_for=f"{count} pattern subscribers",
        )

    def wait_blocked(self, count: int) -> None:
        """Wait until so many stock consumers wait in BRPOP."""
        wait_until(
            lambda: self.client.info("clients")["blocked_clients"] >= count,
            timeout=PATIENCE,
            waiting_for=f"{count} clients in BRPOP",
        )


@contextmanager
def ground_of(node: RedisNode, **options: Any) -> Iterator[Ground]:
    """A database for one test."""
    node.flush()
    with redis.Redis(port=node.port) as client:
        yield Ground(node.url(), client, options)


class Crew:
    """Consumers, each with a connection and a thread of its own.  Leaving the block dismisses them."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._dismissed = False
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._failures: list[BaseException] = []
        self.handled: defaultdict[str, list[Any]] = defaultdict(list)
        """The payloads that each consumer settled for good, in order."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._dismissed = True
        for thread in self._threads:
            thread.join(PATIENCE)
        if error is None and self._failures:
            raise self._failures[0]

    def hire(
        self,
        library: str,
        queues: Callable[[Any], Iterable[Any]],
        *,
        decide: Decide = ack,
        name: str = "",
        prefetch: int = 10,
        **options: Any,
    ) -> str:
        """Put a consumer to work; ``queues`` makes its queues of the library it is given.  Returns its name."""
        name = name or f"{library}-{len(self._threads)}"
        consuming = threading.Event()

        def work() -> None:
            try:
                with self._ground.connect(library, **options) as connection:
                    consumer = connection.Consumer(
                        list(queues(import_module(library))),
                        on_message=lambda message: self._settle(name, decide, message),
                        prefetch_count=prefetch,
                    )
                    with consumer:
                        consuming.set()
                        while not self._dismissed:
                            self._glance(connection)
            except BaseException as error:
                self._failures.append(error)
                consuming.set()
                with self._changed:
                    self._changed.notify_all()

        thread = threading.Thread(target=work, name=name)
        self._threads.append(thread)
        thread.start()
        assert consuming.wait(PATIENCE)
        return name

    def wait(self, count: int) -> None:
        """Wait until so many messages have been settled for good."""
        self.wait_for(lambda handled: len(handled) >= count)

    def wait_for(self, condition: Callable[[list[Any]], bool]) -> None:
        """Wait until what was settled for good meets the condition."""
        with self._changed:
            done = self._changed.wait_for(lambda: self._failures or condition(self.everything()), PATIENCE)
        if self._failures:
            raise self._failures[0]
        assert done, f"{len(self.everything())} were handled, and {self._ground.left()} is left"

    def everything(self) -> list[Any]:
        """What was handled, by whomever."""
        return [payload for payloads in self.handled.values() for payload in payloads]

    def _settle(self, name: str, decide: Decide, message: Any) -> None:
        final = decide(message)
        with self._changed:
            if final:
                self.handled[name].append(message.payload)
                self._changed.notify_all()

    @staticmethod
    def _glance(connection: Any) -> None:
        try:
            connection.drain_events(timeout=GLANCE)
        except TimeoutError:
            return


@contextmanager
def producers(ground: Ground, *libraries: str, **options: Any) -> Iterator[list[Any]]:
    """A producer of each library."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(stack.enter_context(ground.connect(library, **options)).Producer())
            for library in libraries
        ]
