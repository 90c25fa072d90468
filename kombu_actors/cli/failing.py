"""How a verb that can't do its work ends."""

from __future__ import annotations

import click

__all__ = ["Failed"]


class Failed(click.ClickException):
    """It ends with one line on stderr, and this exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code
