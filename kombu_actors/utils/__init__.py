"""Small tools that kombu documents and its users import."""

from __future__ import annotations

from .functional import fxrange, maybe_list, reprcall, reprkwargs, retry_over_time
from .uuid import uuid

__all__ = ["fxrange", "maybe_list", "reprcall", "reprkwargs", "retry_over_time", "uuid"]
