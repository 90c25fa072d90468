"""A connection's runs, one after the other: who makes the next one, and who puts the last one away.

Threads, signal handlers and forked children share a connection: whatever interrupts a change here, there is one run
afterwards or none, and no tree that nobody ends.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from .._bridge.forking import SharedLock

if TYPE_CHECKING:
    from .running import ConnectionTree

__all__ = ["Runs"]

logger = logging.getLogger("kombu_actors.connection")


class NewRun(Protocol):
    """Starts a run of the connection's tree; with a ``holder`` that one says when to dial."""

    def __call__(self, *, holder: object | None) -> ConnectionTree: ...


class Runs:
    """The present run of a connection's tree, and what makes the next.

    A run ends when its connection is closed, or when supervision has given up; the next use of the connection begins
    another one, without channels.
    """

    new_run: NewRun
    """What makes the next one: as the connection is configured then."""

    def __init__(self) -> None:
        self.present: ConnectionTree | None = None
        self.declared: set[object] = set()
        """Entities that the program has declared in the present run, for kombu's ``declared_entities``."""
        self.lock = SharedLock()
        """Held while a run or the default channel is being made: threads share a connection."""

    def running(self, holder: object | None = None) -> ConnectionTree:
        """The present run, or a new one; with a ``holder`` this side says when to dial, from the first dial on."""
        tree = self.present
        if tree is None or not tree.usable:
            with self.lock.held:
                tree = self.present
                if tree is None or not tree.usable:
                    if tree is not None:
                        self.discard(tree)
                    return self._begin(holder)
        if holder is not None:
            tree.hold_dialling(holder)
        return tree

    def _begin(self, holder: object | None) -> ConnectionTree:
        tree: ConnectionTree | None = None
        try:
            tree = self.new_run(holder=holder)
            made_meanwhile, self.present = self.present, tree
            if made_meanwhile is not None:  # by a signal handler
                made_meanwhile.abandon()
        except BaseException:
            if tree is not None and self.present is not tree:
                tree.abandon()
            raise
        return tree

    def let_dialling_go(self, holder: object) -> None:
        """Supervision says when to dial, unless another holder is left.  May be done again."""
        tree = self.present
        if tree is not None and tree.usable:
            tree.let_dialling_go(holder)

    def stop(self, drain: float) -> int:
        """End the present run, whatever interrupts it.

        Publishes under way get ``drain`` seconds; returns how many stayed unconfirmed.
        """
        tree = self.present
        if tree is None:
            return 0
        try:
            return tree.stop(drain)
        finally:
            self._forget(tree)

    def discard(self, tree: ConnectionTree) -> None:
        """Put away a run that gave up; the next one starts without channels."""
        try:
            unconfirmed = tree.stop(0)
        finally:
            self._forget(tree)
        if unconfirmed:
            logger.error("%s: supervision gave up with %d publishes not confirmed", tree.endpoint, unconfirmed)

    def _forget(self, tree: ConnectionTree) -> None:
        with self.lock.held:
            if self.present is tree:
                self.present = None
                self.declared.clear()
        tree.unwatch()
