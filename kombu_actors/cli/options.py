"""What all verbs' options and arguments have in common."""

from __future__ import annotations

import re
from functools import partial

import click

__all__ = ["BYTES", "PREFIX", "Variable", "option"]

PREFIX = "KOMBU_ACTORS"
"""How the names of the variables in the environment begin."""


class Variable(click.Option):
    """An option with its twin in the environment, named after the flag alone: ``--drain-timeout`` is
    ``KOMBU_ACTORS_DRAIN_TIMEOUT`` for whatever verb."""

    def __init__(self, declarations: list[str], **attributes: object) -> None:
        flag = next(part for part in declarations if part.startswith("--")).split("/")[0]
        name = flag.removeprefix("--").replace("-", "_").upper()
        given = {"envvar": f"{PREFIX}_{name}", "show_envvar": True, **attributes}
        super().__init__(declarations, **given)  # type: ignore[arg-type]  # click types each by itself


option = partial(click.option, cls=Variable)


class Bytes(click.ParamType[int]):
    """A number of bytes: ``512M``, ``2G``, ``300000``."""

    name = "bytes"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"([1-9]\d*)\s*([KMG]?)(i?B)?", str(value).strip(), re.IGNORECASE)
        if found is None:
            self.fail(f"{value!r} is no number of bytes, such as 512M or 2G", param, ctx)
        factor: int = 1024 ** " KMG".index(found[2].upper() or " ")
        return int(found[1]) * factor


BYTES = Bytes()
