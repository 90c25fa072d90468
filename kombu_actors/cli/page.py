"""What ``run`` is told of the status page: whether it may act, and by which token."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import attrs
import click

from ..control.places import own_directory

if TYPE_CHECKING:
    from ..web.page import Token

__all__ = ["TOKEN", "PageFlags"]

TOKEN = "KOMBU_ACTORS_TOKEN"
"""The environment's variable for the token of actions: a command line is everybody's to read."""

logger = logging.getLogger("kombu_actors.web")


@attrs.frozen(kw_only=True)
class PageFlags:
    """``--allow-actions``, ``--token-file`` and ``--allow-host``."""

    fleet: str
    allow_actions: bool = False
    token_file: Path | None = None
    names: Sequence[str] = ()

    def token(self) -> Token | None:
        """The token for actions: from the file, the environment, or made and told of once; None: nobody may act.

        Raises ``click.UsageError``.
        """
        from ..web.page import Token, token_at  # with starlette

        if not self.allow_actions:
            return None
        try:
            if self.token_file is None and (value := os.environ.get(TOKEN)) is not None:
                return Token(value)
            path = self.token_file or default_token_file(self.fleet)
            token, made = token_at(path)
        except (ValueError, OSError) as error:
            raise click.UsageError(f"--allow-actions: {error}") from None
        if made:
            logger.info("a token for actions has been made: it is in %s", path)
        return token


def default_token_file(fleet: str) -> Path:
    """Beside the control sockets of this user.

    Raises ``OSError``: their directory is open to others.
    """
    return Path(own_directory()) / f"{quote(fleet, safe='')}.token"
