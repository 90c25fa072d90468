"""The command line."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .files import Source, Unreadable, read, sources
from .judging import members
from .report import Report
from .rewriting import rewrite, unified
from .scanning import scan

NOTHING_TO_WORRY, SOMETHING_MISSING, USAGE = 0, 1, 2
"""Exit codes; ``argparse`` ends with the last one, too."""


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    made = argparse.ArgumentParser(
        prog="python -m kombu_actors.migrate",
        description="List what Python sources use of kombu: where, whether kombu_actors has it, and which differences"
        " (docs/differences.md) it may meet. With --rewrite, change the imports.",
        epilog="exit codes: 0 nothing to worry about; 1 something is not here, or could not be read; 2 wrong usage",
    )
    made.add_argument("path", type=Path, nargs="+", help="a file, or a folder with all below it")
    made.add_argument("--rewrite", action="store_true", help="print the change of the imports as a unified diff")
    made.add_argument("--yes", action="store_true", help="with --rewrite: write it")
    made.add_argument("-j", "--json", action="store_true", help="print JSON")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code.

    Raises:
        SystemExit: with code 2, a mistake in the command line, which is told on stderr.
    """
    command = parser()
    asked = command.parse_args(arguments)
    for path in asked.path:
        if not path.exists():
            command.error(f"there is no {path}")
    if asked.yes and not asked.rewrite:
        command.error("--yes says that --rewrite may write: give both")
    report = examine(asked.path, rewriting=asked.rewrite, write=asked.yes)
    if asked.json:
        print(json.dumps(report.as_json()))
    else:
        print(*(report.of_changes(done=asked.yes) if asked.rewrite else report.of_names()), sep="\n")
    worries = report.left if asked.rewrite else [line for line in report.lines if line.troubles]
    return SOMETHING_MISSING if worries or report.unreadable else NOTHING_TO_WORRY


def examine(paths: Sequence[Path], *, rewriting: bool = False, write: bool = False) -> Report:
    """Look at all sources below the paths."""
    report = Report()
    known = members()
    for path in dict.fromkeys(found for one in paths for found in sources(one)):
        report.files += 1
        try:
            source = read(path)
            if source is None:
                continue
            if rewriting:
                change(source, report, write=write)
            else:
                report.add(str(path), scan(source.tree, known))
        except Unreadable as error:
            report.unreadable[str(path)] = str(error)
        except RecursionError:
            report.unreadable[str(path)] = "expressions are nested too deeply"
    return report


def change(source: Source, report: Report, *, write: bool) -> None:
    """Rewrite a source, or find out how."""
    done = rewrite(source)
    name = str(source.path)
    if done.left:
        report.left[name] = done.left
    if done.text != source.text:
        report.diffs[name] = "".join(unified(source.text, done.text, name.lstrip("/")))
        if write:
            replace(source.path, source.encoded(done.text))


def replace(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; its permissions stay, and a symbolic link goes on leading to it."""
    target = path.resolve()
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        shutil.copymode(target, name)
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise
