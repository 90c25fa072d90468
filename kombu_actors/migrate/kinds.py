"""Of which class of kombu's an expression is, as far as a reader sees it."""

from __future__ import annotations

import ast
from collections.abc import Mapping

from .scopes import Scope

CONNECTION, PRODUCER, CONSUMER = "kombu.Connection", "kombu.Producer", "kombu.Consumer"

MADE_BY: Mapping[str, str] = {
    "Producer": PRODUCER,
    "Consumer": CONSUMER,
    "SimpleQueue": "kombu.simple.SimpleQueue",
    "SimpleBuffer": "kombu.simple.SimpleBuffer",
}
"""What methods of connections and channels make."""
POOLED: Mapping[str, str] = {"kombu.pools.connections": CONNECTION, "kombu.pools.producers": PRODUCER}
GIVEN: Mapping[str, str] = {"connection": CONNECTION, "producer": PRODUCER}
"""Attributes that mixins have of themselves."""


def class_of(node: ast.expr, scope: Scope) -> str | None:
    """The class of kombu's that an expression's value is seen to be of: what was assigned, called or entered."""
    match node:
        case ast.Name(id="self"):
            return scope.own_class()
        case ast.Name(id=name):
            return scope.object(name)
        case ast.Attribute(value=ast.Name(id="self"), attr=name):
            return scope.self_attributes().get(name) or (GIVEN.get(name) if scope.own_class() else None)
        case ast.Call(func=ast.Attribute(value=ast.Subscript(value=pool), attr="acquire")):
            return POOLED.get(scope.dotted(pool) or "")
        case ast.Call(func=function):
            dotted = scope.dotted(function)
            if dotted and dotted.rpartition(".")[2][:1].isupper():
                return dotted
            if isinstance(function, ast.Attribute) and not dotted:
                return MADE_BY.get(function.attr)
    return None
