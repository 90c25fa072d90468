"""What is printed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import attrs

from .differences import differences
from .judging import Verdict, judge
from .rewriting import Left
from .scanning import Use

ALWAYS = ("import", "star", "name", "string")
"""Uses that are told of in any case; others where there is something to say."""
FEW = 5
"""Places that are named of each difference; the JSON has all."""


@attrs.frozen
class Line:
    """A use, where it is and what is to be said of it."""

    path: str
    use: Use
    verdict: Verdict

    @property
    def worth_telling(self) -> bool:
        """Whether a reader is told of it."""
        return self.use.kind in ALWAYS or self.verdict.here is False or bool(self.verdict.differences)

    @property
    def troubles(self) -> bool:
        """Whether the program can't be moved before somebody has looked at this."""
        return self.use.kind == "star" or (self.verdict.here is False and self.use.kind != "string")

    def __str__(self) -> str:
        return f"{self.path}:{self.use.line}: {self.use.name.removeprefix('?.')}: {'; '.join(self._said())}"

    def _said(self) -> Iterator[str]:
        if self.use.kind == "string":
            yield "a string: change it by hand if it names the library"
        elif self.verdict.here is False or self.use.kind == "star":
            yield f"NOT HERE: {self.verdict.why}" if self.verdict.here is False else f"LOOK: {self.verdict.why}"
        elif self.verdict.here:
            yield "here"
        if self.verdict.differences:
            yield f"may meet {', '.join(self.verdict.differences)}"


@attrs.define
class Report:
    """All that was found."""

    files: int = 0
    """How many were looked at."""
    lines: list[Line] = attrs.Factory(list)
    unreadable: dict[str, str] = attrs.Factory(dict)
    """By path: why."""
    diffs: dict[str, str] = attrs.Factory(dict)
    """By path: how it is changed."""
    left: dict[str, list[Left]] = attrs.Factory(dict)
    """By path: what is not changed."""

    def add(self, path: str, found: list[Use]) -> None:
        """Judge the uses of a file; of one name on one line all is said at once."""
        merged: dict[tuple[int, str], Line] = {}
        for use in found:
            line = Line(path, use, judge(use))
            if before := merged.get((use.line, use.name)):
                both = dict.fromkeys([*before.verdict.differences, *line.verdict.differences])
                line = attrs.evolve(before, verdict=attrs.evolve(before.verdict, differences=tuple(both)))
            merged[use.line, use.name] = line
        self.lines += merged.values()

    def met(self) -> dict[str, list[str]]:
        """By row of the page: the places that may meet it."""
        places: dict[str, list[str]] = defaultdict(list)
        for line in self.lines:
            for key in line.verdict.differences:
                place = f"{line.path}:{line.use.line}"
                if place not in places[key]:
                    places[key].append(place)
        return {key: places[key] for key in differences() if key in places}

    def of_names(self) -> Iterator[str]:
        """Name by name, the rows that they may meet, and the sum."""
        told = [line for line in self.lines if line.worth_telling]
        yield from map(str, told)
        yield from self._of_unreadable()
        met = self.met()
        if met:
            yield ""
            yield "What differs there (docs/differences.md):"
        for key, places in met.items():
            row = differences()[key]
            yield f"  {key} ({row.section[0].lower()}{row.section[1:]})"
            if row.kombu:
                yield f"    kombu: {row.kombu}"
            yield f"    here: {row.ours}{f' Instead: {row.why}' if row.section == 'Not there' else ''}"
            more = f" and {len(places) - FEW} more" if len(places) > FEW else ""
            yield f"    at {', '.join(places[:FEW])}{more}"
        missing = sum(line.troubles for line in told)
        yield ""
        yield f"{self.files} files: {len(told)} uses of kombu, {missing} not here; {len(met)} differences to know of"

    def of_changes(self, *, done: bool) -> Iterator[str]:
        """The diff, and what is left."""
        for diff in self.diffs.values():
            yield diff.rstrip("\n")
        for path, left in self.left.items():
            for one in left:
                yield f"{path}:{one.line}: {one.name}: left as it was: {one.why}"
        yield from self._of_unreadable()
        if done:
            yield f"{len(self.diffs)} files changed"
        elif self.diffs:
            yield f"{len(self.diffs)} files to change; nothing was written: --yes does it"

    def _of_unreadable(self) -> Iterator[str]:
        for path, why in self.unreadable.items():
            yield f"{path}: NOT READ: {why}"

    def as_json(self) -> dict[str, object]:
        """All of it as values."""
        return {
            "files": self.files,
            "uses": [
                {
                    "path": line.path,
                    "line": line.use.line,
                    "name": line.use.name.removeprefix("?."),
                    "kind": line.use.kind,
                    **attrs.asdict(line.verdict),
                }
                for line in self.lines
                if line.worth_telling
            ],
            "differences": {
                key: {**attrs.asdict(differences()[key]), "places": places} for key, places in self.met().items()
            },
            "unreadable": self.unreadable,
            "diffs": self.diffs,
            "left": {path: [attrs.asdict(one) for one in left] for path, left in self.left.items()},
        }
