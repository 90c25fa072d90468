"""Changing kombu's imports to this library's, every other byte as it was.

``import kombu`` binds a name that is used all over a file, so its uses change with it; every other import binds a name
that stays.  What is not here is left as it is, with all that hangs together with it, and told of.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterator

import attrs

from .files import LINE_END, Source
from .lookup import OURS, look_up
from .scopes import KOMBU, Binder, Scope, module_of

LINES = re.compile(r"[^\n]*\n|[^\n]+")
AFTER_FROM = re.compile(r"from(?:\s|\\\r?\n)+(?=kombu\b)")
WHOLE = re.compile(rf"{KOMBU}\b")
WORD = re.compile(rf"(?<![\w.]){KOMBU}(?=\.)")


@attrs.frozen
class Left:
    """A statement or use that was not changed."""

    line: int
    name: str
    why: str


@attrs.define
class Rewrite:
    """The changed text and what was left."""

    text: str
    left: list[Left] = attrs.Factory(list)


def rewrite(source: Source) -> Rewrite:
    """Move a source, as far as it can be."""
    binder = Binder(source.tree)
    mover = Mover(source.text, binder)
    mover.walk(source.tree, binder.module)
    return mover.done()


class Mover:
    """Collects the places to change."""

    def __init__(self, text: str, binder: Binder) -> None:
        self._text = text
        self._scopes = binder.scopes
        self._global_names = binder.global_names
        self._starts = [0, *(end.end() for end in LINE_END.finditer(text))]
        self._places: list[int] = []
        self._roots: dict[int, list[tuple[int, str]]] = {}
        """By scope that binds ``kombu`` itself: the places that change together, or not at all."""
        self._left: list[Left] = []

    def walk(self, node: ast.AST, scope: Scope) -> None:
        """Look at a node and all below it."""
        scope = self._scopes.get(node, scope)
        match node:
            case ast.ImportFrom():
                self._from(node)
                return
            case ast.Import():
                self._import(node, scope)
                return
            case ast.Attribute() if self._is_root(root_of(node), scope):
                self._root_used(node, scope)
                return
            case ast.Name() if self._is_root(node, scope):
                self._together(scope, node, KOMBU)
            case ast.arg(annotation=annotation) | ast.AnnAssign(annotation=annotation) if annotation is not None:
                self._annotation(annotation, scope)
            case ast.FunctionDef(returns=annotation) | ast.AsyncFunctionDef(returns=annotation) if (
                annotation is not None
            ):
                self._annotation(annotation, scope)
        for child in ast.iter_child_nodes(node):
            self.walk(child, scope)

    def done(self) -> Rewrite:
        """Carry out what can be."""
        places = list(self._places)
        for uses in self._roots.values():
            missing = [name for _, name in uses if look_up(name).here is False]
            if KOMBU in self._global_names:
                missing.append("global kombu")
            if not all(WHOLE.match(self._text, place) for place, _ in uses):
                missing.append("an f-string that Python doesn't tell the place of")
            if missing:
                self._left += [
                    Left(
                        self._line(place), name, "not here" if name in missing else f"hangs together with {missing[0]}"
                    )
                    for place, name in uses
                ]
            else:
                places += [place for place, _ in uses]
        text = self._text
        for place in sorted(set(places), reverse=True):
            text = f"{text[:place]}{OURS}{text[place + len(KOMBU) :]}"
        return Rewrite(text, sorted(self._left, key=lambda left: left.line))

    def _from(self, node: ast.ImportFrom) -> None:
        module = module_of(node)
        if module.partition(".")[0] != KOMBU:
            return
        names = [f"{module}.{alias.name}" for alias in node.names]
        missing = [name for name in names if not name.endswith("*") and look_up(name).here is False]
        if missing:
            self._left += [Left(node.lineno, name, "not here") for name in missing]
        elif names[0].endswith("*"):
            self._left.append(Left(node.lineno, names[0], "which names it brings can't be seen"))
        elif found := AFTER_FROM.match(self._text, self._place(node.lineno, node.col_offset)):
            self._places.append(found.end())

    def _import(self, node: ast.Import, scope: Scope) -> None:
        for alias in node.names:
            if alias.name.partition(".")[0] != KOMBU:
                continue
            place = self._place(alias.lineno, alias.col_offset)
            if alias.asname is None:
                home = scope.home_of(KOMBU) or scope
                self._roots.setdefault(id(home), []).append((place, alias.name))
            elif look_up(alias.name).here is False:
                self._left.append(Left(alias.lineno, alias.name, "not here"))
            else:
                self._places.append(place)

    def _is_root(self, node: ast.expr | None, scope: Scope) -> bool:
        return isinstance(node, ast.Name) and node.id == KOMBU and scope.meaning(KOMBU) == KOMBU

    def _root_used(self, node: ast.Attribute, scope: Scope) -> None:
        root = root_of(node)
        assert root is not None
        self._together(scope, root, look_up(scope.dotted(node) or KOMBU).name)

    def _together(self, scope: Scope, node: ast.Name, name: str) -> None:
        place = self._place(node.lineno, node.col_offset)
        self._roots.setdefault(id(scope.home_of(KOMBU)), []).append((place, name))

    def _annotation(self, annotation: ast.expr, scope: Scope) -> None:
        """Names in quotes are names all the same."""
        if scope.meaning(KOMBU) != KOMBU:
            return
        for node in ast.walk(annotation):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                start = self._place(node.lineno, node.col_offset)
                end = self._place(node.end_lineno or node.lineno, node.end_col_offset or 0)
                for found in WORD.finditer(self._text, start, end):
                    self._roots.setdefault(id(scope.home_of(KOMBU)), []).append((found.start(), KOMBU))

    def _place(self, line: int, column: int) -> int:
        """The index in the text of a position that counts bytes of UTF-8."""
        start = self._starts[line - 1]
        end = self._starts[line] if line < len(self._starts) else len(self._text)
        return start + len(self._text[start:end].encode()[:column].decode())

    def _line(self, place: int) -> int:
        return sum(1 for start in self._starts if start <= place)


def root_of(node: ast.expr) -> ast.Name | None:
    """What a chain of attributes begins with, if that is a name."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node if isinstance(node, ast.Name) else None


def unified(before: str, after: str, path: str) -> Iterator[str]:
    """The change as ``patch`` reads it."""
    old, new = LINES.findall(before), LINES.findall(after)
    for line in difflib.unified_diff(old, new, f"a/{path}", f"b/{path}"):
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
