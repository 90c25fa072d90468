"""Reading a source: which names of kombu's it uses, and where."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Literal

import attrs

from .kinds import MADE_BY, class_of
from .scopes import Binder, Function, Scope, arguments_of, imported, module_of

Kind = Literal["import", "star", "name", "member", "call", "string", "url"]
URL = re.compile(r"([a-z+]+)://")


@attrs.frozen(order=True)
class Use:
    """A place where a source uses something of kombu's."""

    line: int
    column: int
    name: str
    """A dotted name; of members ``kombu.Connection.drain_events``, or ``?.drain_events`` where the object isn't known;
    of URLs the scheme."""
    kind: Kind
    keywords: tuple[tuple[str, object], ...] = ()
    """Of calls: the keywords, with their values where those are plain constants (else ``...``)."""


def scan(tree: ast.Module, members: frozenset[str]) -> list[Use]:
    """All uses in a module, in the order of the source.

    Arguments:
        members: names of methods and attributes that count as kombu's, whatever object they are asked of.
    """
    return sorted(
        set(Scanner(Binder(tree).scopes, members).uses_in(tree)), key=lambda use: (use.line, use.column, use.name)
    )


class Scanner:
    """One walk over a module whose scopes are known."""

    def __init__(self, scopes: dict[ast.AST, Scope], members: frozenset[str]) -> None:
        self._scopes = scopes
        self._members = members

    def uses_in(self, node: ast.AST, scope: Scope | None = None) -> Iterator[Use]:
        """What a node and all below it use."""
        scope = self._scopes.get(node, scope) or Scope()
        match node:
            case ast.Import() | ast.ImportFrom():
                yield from imports(node)
                return
            case ast.Attribute():
                dotted = scope.dotted(node)
                if dotted:
                    yield Use(node.lineno, node.col_offset, dotted, "name")
                    return
                yield from self._member(node, scope)
            case ast.Call():
                yield from self._call(node, scope)
            case ast.ClassDef():
                yield from self._class(node, scope)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self._note_arguments(node, scope)
            case ast.Assign(targets=[target], value=value) | ast.AnnAssign(target=target, value=ast.expr() as value):
                self._note(target, value, scope)
            case ast.withitem(context_expr=value, optional_vars=ast.expr() as target):
                self._note(target, value, scope)
            case ast.Constant(value=str(text)) if names_kombu(text):
                yield Use(node.lineno, node.col_offset, text, "string")
            case ast.Constant(value=str(text)) if scheme := URL.match(text):
                yield Use(node.lineno, node.col_offset, scheme[1], "url")
            case ast.Expr(value=ast.Constant(value=str())):
                return  # a docstring
        for child in ast.iter_child_nodes(node):
            yield from self.uses_in(child, scope)

    def _member(self, node: ast.Attribute, scope: Scope) -> Iterator[Use]:
        owner = class_of(node.value, scope)
        if owner or node.attr in self._members:
            yield Use(node.end_lineno or node.lineno, node.end_col_offset or 0, f"{owner or '?'}.{node.attr}", "member")

    def _call(self, node: ast.Call, scope: Scope) -> Iterator[Use]:
        keywords = tuple((one.arg or "**", constant(one.value)) for one in node.keywords)
        dotted = scope.dotted(node.func)
        if dotted is None and isinstance(node.func, ast.Attribute):
            owner = class_of(node.func.value, scope)
            if owner or node.func.attr in self._members:
                dotted = MADE_BY.get(node.func.attr) or f"{owner or '?'}.{node.func.attr}"
        if dotted and keywords:
            yield Use(node.lineno, node.col_offset, dotted, "call", keywords)

    def _class(self, node: ast.ClassDef, scope: Scope) -> Iterator[Use]:
        bases = [dotted for base in node.bases if (dotted := scope.dotted(base))]
        scope.cls = bases[0] if bases else None
        for statement in node.body:
            if scope.cls and isinstance(statement, ast.FunctionDef) and not statement.name.startswith("__"):
                yield Use(statement.lineno, statement.col_offset, f"{scope.cls}.{statement.name}", "member")

    def _note_arguments(self, node: Function, scope: Scope) -> None:
        """An argument's annotation says what it is; so may ``self``'s class."""
        for argument in arguments_of(node):
            if argument.annotation is not None and (dotted := scope.dotted(argument.annotation)):
                scope.objects[argument.arg] = dotted

    def _note(self, target: ast.expr, value: ast.expr, scope: Scope) -> None:
        """An assignment shows what a variable is."""
        made = class_of(value, scope)
        if made is None:
            return
        match target:
            case ast.Name(id=name):
                scope.objects[name] = made
            case ast.Attribute(value=ast.Name(id="self"), attr=name):
                scope.self_attributes()[name] = made


def imports(node: ast.Import | ast.ImportFrom) -> Iterator[Use]:
    """What an import statement names of kombu's."""
    module = module_of(node) if isinstance(node, ast.ImportFrom) else None
    for alias in node.names:
        if alias.name == "*":
            if module and module.partition(".")[0] == "kombu":
                yield Use(node.lineno, node.col_offset, f"{module}.*", "star")
        elif imported(alias, module)[1]:
            dotted = f"{module}.{alias.name}" if module else alias.name
            yield Use(alias.lineno, alias.col_offset, dotted, "import")


def constant(node: ast.expr) -> object:
    """The value of a plain constant, else ``...``."""
    return node.value if isinstance(node, ast.Constant) else ...


def names_kombu(text: str) -> bool:
    """Whether a string may be a module or name of kombu's: ``kombu.transport.redis:Transport``."""
    first, separator, rest = text.partition(".")
    dotted = rest.replace(":", ".", 1)
    return first == "kombu" and (not separator or all(part.isidentifier() for part in dotted.split(".")))
