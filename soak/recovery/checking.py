"""What is checked, and when it is well: against the model, within the promised time."""

from __future__ import annotations

import threading
import time
from typing import Any

from kombu_actors.errors import OperationalError

from .model import Truth
from .operating import Operations
from .peer import headers_of
from .plan import PUBLISHED
from .realms import Realm
from .steps import Side

__all__ = ["RECOVERY", "Checks", "Violation"]

RECOVERY = 5.0
"""Seconds from the end of the last fault until everything holds again: the promise."""
FIRST_PATIENCE, LAST_PATIENCE = 0.05, 0.8
"""Seconds that one round of probes is waited for before the next is sent; it doubles."""
Round = tuple[set[tuple[str, str]], dict[str, tuple[set[str], str]]]
"""Probes: who must hear what, and who may hear each text, with how it was sent."""


class Violation(Exception):
    """What the model does not allow, in a sentence, and the kind of it in a word."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Checks(Operations):
    """A program that can say whether all is well."""

    def __init__(self, realm: Realm, within: float) -> None:
        super().__init__(realm)
        self.within = within
        self.recoveries: list[float] = []
        self._owed: dict[str, set[str]] = {}
        """Texts by the queue that must not lose them."""
        self._round = 0
        self._disturbed = False
        """Whether anything was harmed since all was well."""
        self._mistaken: set[Any] = set()
        """Channels with a publish to nowhere that may be yet to be sent: in an outage it waits, and harms later."""
        self._healing: threading.Timer | None = None
        self._prober = realm.connect_directly()

    def _wait_answered(self, deadline: float) -> None:
        """The last harm is over when the broker has answered the last publish to nowhere."""
        publishers = [channel.handle.actor.publisher for channel in self._mistaken]
        while any(publisher.under_way for publisher in publishers) and time.monotonic() < deadline:
            time.sleep(0.01)
        self._mistaken.clear()

    def _wait_healed(self) -> None:
        if self._healing is not None:
            self._healing.join()
            self._healing = None

    # -- the verdict ------------------------------------------------------------------------------------------

    def _check(self) -> None:
        self._wait_healed()
        began = time.monotonic()
        self._wait_answered(began + self.within)
        deadline = time.monotonic() + self.within
        patience = FIRST_PATIENCE
        rounds: list[Round] = []
        while True:
            rounds.append(self._probe())
            complete = self._heard.wait_one([sure for sure, _ in rounds], min(patience, deadline - time.monotonic()))
            if complete is not None:
                possible = rounds[complete][1]
                break
            if time.monotonic() >= deadline:
                deaf = self._never_heard(rounds)
                raise Violation("deaf", f"deaf after {self.within:g} s: {', '.join(deaf)}; {self._state()}")
            patience = min(2 * patience, LAST_PATIENCE)
        self._nobody_else_heard(possible)
        self._nothing_is_lost(deadline)
        self._broker_agrees(deadline)
        if self.unhandled is not None:
            raise Violation("unhandled", self.unhandled)
        self.recoveries.append(time.monotonic() - began)
        self._disturbed = False

    def _never_heard(self, rounds: list[Round]) -> list[str]:
        heard: dict[str, bool] = {}
        for sure, possible in rounds:
            for queue, text in sure:
                route = f"{queue} ({possible[text][1]})"
                heard[route] = heard.get(route, False) or (queue, text) in self._heard.texts
        return sorted(route for route, once in heard.items() if not once) or ["something in each round"]

    def _probe(self) -> Round:
        """Send a round; who must hear what, and who may hear each text (with where it went)."""
        self._round += 1
        sure: set[tuple[str, str]] = set()
        possible: dict[str, tuple[set[str], str]] = {}
        world = self.world
        for name, exchange in world.exchanges.items():
            if exchange.there is not Truth.YES:
                continue
            for key in (*PUBLISHED[exchange.type], "nobody's"):
                routed = world.routed(name, key)
                text = f"r{self._round} {name} {key}"
                self._send(text, name, "" if exchange.type == "headers" else key, headers_of(exchange.type, key))
                hearing = {queue: min(there, world.hears(queue)) for queue, there in routed.items()}
                sure |= {(queue, text) for queue, there in hearing.items() if there is Truth.YES}
                possible[text] = {queue for queue, there in hearing.items() if there}, f"by {name} {key!r}"
        for name, queue in world.queues.items():
            if queue.there is Truth.YES:
                text = f"r{self._round} {name}"
                self._send(text, "", self._actual_name(name), {})
                hears = world.hears(name)
                if hears is Truth.YES:
                    sure.add((name, text))
                possible[text] = {name} if hears else set(), "directly"
        return sure, possible

    def _actual_name(self, queue: str) -> str:
        """The name by which the broker knows it: the program's object follows a queue that the broker names."""
        name: str = self._queues[queue].name if queue in self._queues else queue
        return name

    def _send(self, text: str, exchange: str, key: str, headers: dict[str, str]) -> None:
        try:
            self._prober.Producer().publish(text, exchange=exchange, routing_key=key, headers=headers)
        except (*self._prober.connection_errors, *self._prober.channel_errors, OperationalError):
            # The broker is just coming back, or an exchange is: the next round finds it, or the check fails.
            self._prober.collect()

    def _nobody_else_heard(self, possible: dict[str, tuple[set[str], str]]) -> None:
        for queue, text in sorted(self._heard.texts):
            if text in possible and queue not in possible[text][0]:
                raise Violation("heard", f"{queue} heard what was published {possible[text][1]}, and should not")

    def _nothing_is_lost(self, deadline: float) -> None:
        owed = {
            (queue, text)
            for queue, texts in self._owed.items()
            for text in texts
            if self.world.hears(queue) is Truth.YES
        }
        if self._heard.wait_one([owed], deadline - time.monotonic()) is None:
            lost = sorted(owed - self._heard.texts)
            raise Violation("lost", f"accepted and not received: {lost[:10]}; {self._state()}")

    def _broker_agrees(self, deadline: float) -> None:
        """What was undone is not there, and each queue has the consumers it should have: no ghosts."""
        while (wrong := self._disagreement()) is not None:
            if time.monotonic() >= deadline:
                raise Violation("broker", wrong)
            time.sleep(0.02)  # the broker tells nobody

    def _disagreement(self) -> str | None:
        world = self.world
        queues, exchanges = self.realm.queues(), self.realm.exchanges()
        for name, exchange in world.exchanges.items():
            if exchange.there is Truth.NO and exchange.side is Side.OURS and name in exchanges:
                return f"exchange {name} was deleted and is there"
        for name, queue in world.queues.items():
            actual = self._actual_name(name)
            if queue.there is Truth.NO and actual in queues:
                return f"queue {name} ({actual}) was deleted, or went with its consumer, and is there"
            if queue.there is Truth.YES:
                if actual not in queues:
                    return f"queue {name} ({actual}) is not there"
                wanted = int(world.consumer_of(name) is not None)
                if queues[actual] not in (None, wanted) and world.hears(name) is not Truth.MAYBE:
                    return f"queue {name} ({actual}) has {queues[actual]} consumers, not {wanted}"
        return None

    def _state(self) -> str:
        if self._ours._runs.present is None or not self._ours.connected:
            return "not connected"
        waiting = [f"{each.what}: {each.reason}" for each in self._ours._runs.present.waiting]
        channels = [f"{channel.channel_id}: {channel.failure or channel.is_open}" for channel in self._channels]
        return f"connected, waiting for {waiting or 'nothing'}, channels {', '.join(channels)}"
