"""kombu itself, whose behaviour the facade promises; it has no types to check against."""

from __future__ import annotations

from importlib import import_module
from typing import Any

serialization: Any = import_module("kombu.serialization")
compression: Any = import_module("kombu.compression")
entity: Any = import_module("kombu.entity")
message: Any = import_module("kombu.message")
json: Any = import_module("kombu.utils.json")
url: Any = import_module("kombu.utils.url")
functional: Any = import_module("kombu.utils.functional")
encoding: Any = import_module("kombu.utils.encoding")
