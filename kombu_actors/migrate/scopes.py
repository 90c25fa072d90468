"""Which names of a module mean something of kombu's, scope by scope."""

from __future__ import annotations

import ast

import attrs

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
KOMBU = "kombu"


@attrs.define(eq=False)
class Scope:
    """A module, class or function, and what its names mean: a dotted name of kombu's, or None for anything else.

    Where a name is bound more than once in a scope, kombu's meaning holds: ``except ImportError: kombu = None``.
    """

    parent: Scope | None = None
    is_class: bool = False
    names: dict[str, str | None] = attrs.Factory(dict)
    objects: dict[str, str] = attrs.Factory(dict)
    """Of variables, the class of kombu's that they are seen to be of."""
    cls: str | None = None
    """The class of kombu's that the surrounding class derives from."""
    attributes: dict[str, str] = attrs.Factory(dict)
    """The same of ``self``'s attributes; one dict for all methods of a class."""
    globals: set[str] = attrs.Factory(set)
    """Names of this function that a ``global`` statement says are the module's."""

    def bind(self, name: str, meaning: str | None) -> None:
        """Note what a statement of this scope makes a name mean."""
        if name in self.globals:
            self.module().bind(name, meaning)
        elif meaning is not None or name not in self.names:
            self.names[name] = meaning

    def module(self) -> Scope:
        """The outermost scope."""
        scope = self
        while scope.parent is not None:
            scope = scope.parent
        return scope

    def home_of(self, name: str) -> Scope | None:
        """The scope whose name is meant by code in this one."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names and (scope is self or not scope.is_class):
                return scope
            scope = scope.parent
        return None

    def meaning(self, name: str) -> str | None:
        """The dotted name of kombu's that a name stands for, if any."""
        home = self.home_of(name)
        return home.names[name] if home else None

    def object(self, name: str) -> str | None:
        """The class of kombu's that a variable is of, if that is seen."""
        home = self.home_of(name)
        return home.objects.get(name) if home else None

    def own_class(self) -> str | None:
        """The class of kombu's that the surrounding class derives from, if it does."""
        found = self._class()
        return found.cls if found else None

    def self_attributes(self) -> dict[str, str]:
        """What the surrounding class's ``self`` has."""
        return (self._class() or self.module()).attributes

    def _class(self) -> Scope | None:
        scope: Scope | None = self
        while scope is not None and not scope.is_class:
            scope = scope.parent
        return scope

    def dotted(self, node: ast.expr) -> str | None:
        """What an expression such as ``k.pools.producers`` stands for."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return None
        root = self.meaning(node.id)
        return ".".join([root, *reversed(parts)]) if root else None


def imported(alias: ast.alias, module: str | None) -> tuple[str, str | None]:
    """The name that an import binds, and what it means; ``module`` is that of ``from module import ...``."""
    dotted = f"{module}.{alias.name}" if module else alias.name
    is_kombus = dotted == KOMBU or dotted.startswith(KOMBU + ".")
    if alias.asname or module:
        return alias.asname or alias.name, dotted if is_kombus else None
    first = alias.name.partition(".")[0]
    return first, KOMBU if is_kombus else None


def module_of(node: ast.ImportFrom) -> str:
    """What is imported from; a relative one is nobody's we know."""
    return "." if node.level else node.module or "."


class Binder:
    """Finds the scopes of a module and what their names mean."""

    def __init__(self, tree: ast.Module) -> None:
        self.module = Scope()
        self.scopes: dict[ast.AST, Scope] = {tree: self.module}
        """By module, class or function."""
        self.global_names: set[str] = set()
        """What ``global`` statements name."""
        self._bind_below(tree, self.module)

    def _bind(self, node: ast.AST, scope: Scope) -> None:
        match node:
            case ast.Import(names=names):
                for alias in names:
                    scope.bind(*imported(alias, None))
            case ast.ImportFrom(names=names):
                for alias in names:
                    if alias.name != "*":
                        scope.bind(*imported(alias, module_of(node)))
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                scope.bind(name, None)
            case ast.Global(names=globals):
                scope.globals.update(globals)
                self.global_names.update(globals)
            case ast.ClassDef(name=name):
                scope.bind(name, None)
                self.scopes[node] = scope = Scope(scope, is_class=True)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                if not isinstance(node, ast.Lambda):
                    scope.bind(node.name, None)
                self.scopes[node] = scope = Scope(scope)
                for argument in arguments_of(node):
                    scope.bind(argument.arg, None)
        self._bind_below(node, scope)

    def _bind_below(self, node: ast.AST, scope: Scope) -> None:
        """Defaults, decorators and bases are looked at as if they stood inside: they bind nothing."""
        for child in ast.iter_child_nodes(node):
            self._bind(child, scope)


def arguments_of(node: Function) -> list[ast.arg]:
    """All arguments of a function."""
    found = node.args
    starred = [one for one in (found.vararg, found.kwarg) if one is not None]
    return [*found.posonlyargs, *found.args, *found.kwonlyargs, *starred]
