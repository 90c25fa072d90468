"""How the four exchange types choose destinations.

Every table maps bindings to destinations; a destination bound several times in ways that match
the same message is returned once, and stays bound until its last binding goes.  A topic lookup
costs words times trie nodes at most, whatever the patterns; the others are a dictionary lookup
(direct), a copy (fanout), or one comparison per binding (headers).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

import attrs

from ..._values.model import BindingSpec
from ._errors import precondition_failed, wire_type

Destination = tuple[str, str]
"""Kind (``queue`` or ``exchange``) and name."""


def destination(binding: BindingSpec) -> Destination:
    return binding.kind.value, binding.destination


class RoutingTable(Protocol):
    """The bindings of one exchange, arranged for its type.

    ``add`` and ``discard`` are called with bindings that are absent and present, respectively.
    """

    uses_headers: bool

    def add(self, binding: BindingSpec) -> None: ...
    def discard(self, binding: BindingSpec) -> None: ...
    def match(self, routing_key: str, headers: Mapping[str, object]) -> Iterable[Destination]: ...


@attrs.define
class Counted:
    """Destinations with the number of bindings that lead there, in the order first bound."""

    counts: dict[Destination, int] = attrs.field(factory=dict)

    def add(self, target: Destination) -> None:
        self.counts[target] = self.counts.get(target, 0) + 1

    def discard(self, target: Destination) -> None:
        left = self.counts[target] - 1
        if left:
            self.counts[target] = left
        else:
            del self.counts[target]


@attrs.define
class DirectTable:
    """Routing key equals binding key."""

    uses_headers = False
    _by_key: dict[str, Counted] = attrs.field(factory=dict)

    def add(self, binding: BindingSpec) -> None:
        self._by_key.setdefault(binding.routing_key, Counted()).add(destination(binding))

    def discard(self, binding: BindingSpec) -> None:
        found = self._by_key[binding.routing_key]
        found.discard(destination(binding))
        if not found.counts:
            del self._by_key[binding.routing_key]

    def match(self, routing_key: str, headers: Mapping[str, object]) -> Iterable[Destination]:
        found = self._by_key.get(routing_key)
        return found.counts if found is not None else ()


@attrs.define
class FanoutTable:
    """Everything goes everywhere."""

    uses_headers = False
    _all: Counted = attrs.field(factory=Counted)

    def add(self, binding: BindingSpec) -> None:
        self._all.add(destination(binding))

    def discard(self, binding: BindingSpec) -> None:
        self._all.discard(destination(binding))

    def match(self, routing_key: str, headers: Mapping[str, object]) -> Iterable[Destination]:
        return self._all.counts


@attrs.define(eq=False)
class _Node:
    """A place in the trie of topic patterns, reached by one word."""

    loops: bool = False
    """Reached by ``#``, so it takes any number of words."""
    children: dict[str, _Node] = attrs.field(factory=dict)
    ends: Counted = attrs.field(factory=Counted)


@attrs.define
class TopicTable:
    """Words between dots; ``*`` is one word, ``#`` any number, none included."""

    uses_headers = False
    _root: _Node = attrs.field(factory=_Node)

    def add(self, binding: BindingSpec) -> None:
        node = self._root
        for word in _words(binding.routing_key):
            node = node.children.setdefault(word, _Node(loops=word == "#"))
        node.ends.add(destination(binding))

    def discard(self, binding: BindingSpec) -> None:
        path = [self._root]
        words = _words(binding.routing_key)
        for word in words:
            path.append(path[-1].children[word])
        path[-1].ends.discard(destination(binding))
        for word, parent in zip(reversed(words), reversed(path[:-1]), strict=True):
            child = parent.children[word]
            if child.children or child.ends.counts:
                return
            del parent.children[word]

    def match(self, routing_key: str, headers: Mapping[str, object]) -> Iterable[Destination]:
        places = _with_empty_loops({self._root: None})
        for word in _words(routing_key):
            following: dict[_Node, None] = {}
            for node in places:
                if node.loops:
                    following[node] = None
                for name in (word, "*"):
                    child = node.children.get(name)
                    if child is not None:
                        following[child] = None
            places = _with_empty_loops(following)
            if not places:
                break
        return dict.fromkeys(target for node in places for target in node.ends.counts)


def _words(key: str) -> list[str]:
    return key.split(".") if key else []


def _with_empty_loops(places: dict[_Node, None]) -> dict[_Node, None]:
    """Add the ``#`` nodes reached without consuming a word; each place is held once, so this ends."""
    waiting = list(places)
    while waiting:
        loop = waiting.pop().children.get("#")
        if loop is not None and loop not in places:
            places[loop] = None
            waiting.append(loop)
    return places


_MATCHES: Final = ("all", "any", "all-with-x", "any-with-x")


@attrs.define
class HeadersTable:
    """Headers compared with binding arguments; ``x-match`` says whether all or any must agree."""

    uses_headers = True
    _bindings: dict[BindingSpec, None] = attrs.field(factory=dict)

    def add(self, binding: BindingSpec) -> None:
        self._bindings[binding] = None

    def discard(self, binding: BindingSpec) -> None:
        del self._bindings[binding]

    def match(self, routing_key: str, headers: Mapping[str, object]) -> Iterable[Destination]:
        return dict.fromkeys(
            destination(binding) for binding in self._bindings if headers_agree(binding.arguments, headers)
        )


def headers_agree(arguments: Mapping[str, Any], headers: Mapping[str, object]) -> bool:
    """Whether a message with these headers matches a headers binding with these arguments.

    A binding value of ``None`` asks only for presence.  Keys starting with ``x-`` take part with
    ``all-with-x`` and ``any-with-x`` alone; ``x-match`` never does.
    """
    wanted = arguments.get("x-match", "all")
    with_x = wanted.endswith("-with-x")
    agreements = (
        key in headers and (value is None or _same(value, headers[key]))
        for key, value in arguments.items()
        if key != "x-match" and (with_x or not key.startswith("x-"))
    )
    return all(agreements) if wanted.startswith("all") else any(agreements)


def _same(wanted: object, found: object) -> bool:
    # RabbitMQ compares as Erlang does: 1 equals 1.0, true equals neither.
    return bool(wanted == found) and isinstance(wanted, bool) is isinstance(found, bool)


def check_headers_binding(arguments: Mapping[str, object]) -> None:
    """Raise 406 when ``x-match`` is none of the four words."""
    wanted = arguments.get("x-match", "all")
    if not isinstance(wanted, str):
        raise precondition_failed(f"Invalid x-match field type {wire_type(wanted)} (value {wanted}); expected longstr")
    if wanted not in _MATCHES:
        raise precondition_failed(
            f'Invalid x-match field value <<"{wanted}">>; expected all, any, all-with-x, or any-with-x'
        )


ROUTING_TABLES: Final[Mapping[str, type[DirectTable | FanoutTable | TopicTable | HeadersTable]]] = {
    "direct": DirectTable,
    "fanout": FanoutTable,
    "topic": TopicTable,
    "headers": HeadersTable,
}
