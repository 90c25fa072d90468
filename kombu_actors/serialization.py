"""Turning bodies into bytes and back, and deciding what may be turned back at all.

``json`` is the default and the only format consumers take unless told otherwise: ``pickle``
executes code, ``yaml`` and ``msgpack`` are off because nobody asked for them.  A consumer's
``accept`` list, or ``enable_insecure_serializers``, turns them on.  What a body claims to be is
checked before any decoder, or decompressor, sees it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from .errors import ContentDisallowed, DecodeError, EncodeError, SerializerNotInstalled
from .utils import json as _json
from .utils.charsets import SKIP_DECODE, decode_text
from .utils.encoding import bytes_to_str, str_to_bytes

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = [
    "SerializerRegistry",
    "disable_insecure_serializers",
    "dumps",
    "enable_insecure_serializers",
    "loads",
    "prepare_accept_content",
    "raw_encode",
    "register",
    "registry",
    "unregister",
]

TRUSTED_CONTENT: Final = frozenset({"application/data", "application/text"})
"""Accepted by every consumer: they are handed over as they are."""
INSECURE: Final = ("pickle", "yaml", "msgpack")

Encoder = Callable[[Any], "str | bytes"]
Decoder = Callable[[Any], object]


class codec(NamedTuple):
    """How a serializer encodes, and what it calls the result."""

    content_type: str
    content_encoding: str
    encoder: Encoder


class SerializerRegistry:
    """Serializers by name, decoders by content type, and the content types that are turned off."""

    def __init__(self) -> None:
        self._encoders: dict[str, codec] = {}
        self._decoders: dict[str, Decoder] = {}
        self._default: codec | None = None
        self._disabled_content_types: set[str] = set()
        self._plugins_loaded = False
        self.type_to_name: dict[str, str] = {}
        self.name_to_type: dict[str, str] = {}

    def register(
        self,
        name: str,
        encoder: Encoder | None,
        decoder: Decoder | None,
        content_type: str,
        content_encoding: str = "utf-8",
    ) -> None:
        """Register a serializer.

        ``encoder(data)`` returns ``bytes`` or ``str``, ``decoder(body)`` takes bytes; either may be
        ``None`` for a format that goes one way only.  ``content_encoding`` is the charset of the
        encoder's text, or ``"binary"``.  A new serializer is enabled.
        """
        if encoder is not None:
            self._encoders[name] = codec(content_type, content_encoding, encoder)
        if decoder is not None:
            self._decoders[content_type] = decoder
        self.type_to_name[content_type] = name
        self.name_to_type[name] = content_type

    def unregister(self, name: str) -> None:
        """Forget a serializer; raises ``SerializerNotInstalled`` when there is none of that name."""
        try:
            content_type = self.name_to_type.pop(name)
        except KeyError:
            raise SerializerNotInstalled(f"No encoder/decoder installed for {name}") from None
        self._decoders.pop(content_type, None)
        self._encoders.pop(name, None)
        self.type_to_name.pop(content_type, None)

    def enable(self, name: str) -> None:
        """Let consumers take this serializer (name or content type); raises ``SerializerNotInstalled``."""
        self._disabled_content_types.discard(self.content_type_of(name))

    def disable(self, name: str) -> None:
        """Have consumers refuse this serializer (name or content type); raises ``SerializerNotInstalled``."""
        self._disabled_content_types.add(self.content_type_of(name))

    def content_type_of(self, name: str) -> str:
        """The content type of a serializer's name; a content type is returned as it is.

        Raises ``SerializerNotInstalled``.
        """
        if "/" in name:
            return name
        if name not in self.name_to_type:
            self._load_plugins()
        try:
            return self.name_to_type[name]
        except KeyError:
            raise SerializerNotInstalled(self._unknown(name)) from None

    def _set_default_serializer(self, name: str) -> None:
        self._default = self._codec(name)

    def dumps(self, data: object, serializer: str | None = None) -> tuple[str, str, str | bytes]:
        """Serialize a body; returns content type, content encoding and the result.

        Without ``serializer``, ``bytes`` stay as they are, ``str`` becomes UTF-8 and everything else
        JSON; ``"raw"`` never serializes.  Raises ``EncodeError`` when the serializer can't take the
        data and ``SerializerNotInstalled`` when there is none of that name.
        """
        if not serializer:
            if isinstance(data, bytes):
                return "application/data", "binary", data
            if isinstance(data, str):
                return "text/plain", "utf-8", _utf8(data)
            chosen = self._default
            if chosen is None:
                raise SerializerNotInstalled("no default serializer is set")
        elif serializer == "raw":
            return raw_encode(data)
        else:
            chosen = self._encoders.get(serializer) or self._codec(serializer)
        try:
            payload = chosen.encoder(data)
        except SerializerNotInstalled:
            raise
        except Exception as exc:
            raise EncodeError(
                f"can't serialize this {type(data).__qualname__} as {chosen.content_type}: {type(exc).__name__}: {exc}"
            ) from exc
        return chosen.content_type, chosen.content_encoding, payload

    def loads(
        self,
        data: object,
        content_type: str | bytes | None,
        content_encoding: str | None,
        accept: Container[str] | None = None,
        force: bool = False,
        _trusted_content: Container[str] = TRUSTED_CONTENT,
    ) -> Any:
        """Deserialize a body.

        ``accept`` holds the content types to take; without it everything is taken that is not
        turned off, unless ``force`` is given.  A content type without decoder is decoded as text,
        if its encoding says so, and returned.

        Raises ``ContentDisallowed`` before anything is decoded, and ``DecodeError`` when the body
        isn't what it claims to be.
        """
        name = bytes_to_str(content_type) if content_type else "application/data"
        self.check_content(name, accept, force, _trusted_content)
        if not data:
            return "" if name == "text/plain" and content_encoding not in SKIP_DECODE else data
        decode = self._decoders.get(name)
        if decode is None and name not in TRUSTED_CONTENT and name != "text/plain":
            self._load_plugins()
            decode = self._decoders.get(name)
        if decode is not None:
            try:
                return decode(data)
            except SerializerNotInstalled:
                raise
            except Exception as exc:
                raise DecodeError(f"can't decode a body of type {name!r:.80}: {type(exc).__name__}: {exc}") from exc
        charset = (content_encoding or "utf-8").lower()
        if charset in SKIP_DECODE or isinstance(data, str):
            return data
        return decode_text(data, charset)

    def check_content(
        self,
        content_type: str | None,
        accept: Container[str] | None = None,
        force: bool = False,
        _trusted_content: Container[str] = TRUSTED_CONTENT,
    ) -> None:
        """Raise ``ContentDisallowed`` unless ``loads`` would decode this content type."""
        name = content_type or "application/data"
        if accept is not None:
            if name not in accept and name not in _trusted_content:
                self._refuse(name, "untrusted")
        elif name in self._disabled_content_types and not force:
            self._refuse(name, "disabled")

    def _refuse(self, content_type: str, why: str) -> NoReturn:
        name = self.type_to_name.get(content_type)
        shown = f"{name} ({content_type:.80})" if name else f"{content_type:.80} ({content_type:.80})"
        raise ContentDisallowed(f"Refusing to deserialize {why} content of type {shown}")

    def _codec(self, name: str) -> codec:
        if name not in self._encoders:
            self._load_plugins()
        try:
            return self._encoders[name]
        except KeyError:
            raise SerializerNotInstalled(self._unknown(name)) from None

    def _unknown(self, name: str) -> str:
        return f"No encoder/decoder installed for {name!r:.80}; known: {', '.join(sorted(self.name_to_type))}"

    def _load_plugins(self) -> None:
        """Register what installed packages offer under kombu's entry point, once somebody asks for it."""
        if self._plugins_loaded or self is not registry:
            return
        self._plugins_loaded = True
        from importlib.metadata import entry_points  # slow to import, and most programs have no plugins

        for plugin in entry_points(group="kombu.serializers"):
            if plugin.name not in self.name_to_type:
                try:
                    self.register(plugin.name, *plugin.load())
                except Exception as exc:
                    raise SerializerNotInstalled(
                        f"the serializer plugin {plugin.name!r} can't be loaded: {exc}"
                    ) from exc


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise EncodeError(f"this text can't be encoded as UTF-8: {exc.reason} at position {exc.start}") from exc


def raw_encode(data: object) -> tuple[str, str, Any]:
    """Leave a body as it is (``str`` as UTF-8); what the serializer name ``"raw"`` does."""
    if isinstance(data, str):
        return "application/data", "utf-8", _utf8(data)
    return "application/data", "binary", data


registry: Final = SerializerRegistry()
"""The serializers of this process."""
dumps = registry.dumps
loads = registry.loads
register = registry.register
unregister = registry.unregister

pickle_protocol = int(os.environ.get("PICKLE_PROTOCOL", "4"))
"""kombu's, including the environment variable: peers of other versions must be able to read it."""


def _missing(module: str, extra: str) -> SerializerNotInstalled:
    return SerializerNotInstalled(f"{module} is not installed: pip install 'kombu-actors[{extra}]'")


if not TYPE_CHECKING:  # few ask for it, and it takes milliseconds

    def __getattr__(name: str) -> object:
        if name == "pickle":
            return import_module("pickle")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _pickle(data: object) -> bytes:
    import pickle

    return pickle.dumps(data, protocol=pickle_protocol)


def pickle_loads(body: str | ReadableBuffer) -> Any:
    """What was pickled.  Whoever made the bytes can have any code run here."""
    import pickle

    return pickle.loads(str_to_bytes(body))


def _yaml() -> ModuleType:
    try:
        return import_module("yaml")
    except ImportError:
        raise _missing("PyYAML", "yaml") from None


def _yaml_dumps(data: object) -> str:
    text: str = _yaml().safe_dump(data)
    return text


def _yaml_loads(body: str | ReadableBuffer) -> object:
    return _yaml().safe_load(body if isinstance(body, (str, bytes)) else bytes(body))


def _msgpack() -> ModuleType:
    try:
        return import_module("msgpack")
    except ImportError:
        raise _missing("msgpack", "msgpack") from None


def _msgpack_dumps(data: object) -> bytes:
    packed: bytes = _msgpack().packb(data, use_bin_type=True)
    return packed


def _msgpack_loads(body: object) -> object:
    return _msgpack().unpackb(body, raw=False)


def enable_insecure_serializers(choices: Iterable[str] | None = INSECURE) -> None:
    """Let consumers without an ``accept`` list take ``pickle``, ``yaml`` and ``msgpack``, or your ``choices``.

    Anybody who can publish to a queue whose consumer takes pickle can run code in that consumer.
    ``choices`` are names or content types; unknown ones are ignored, as in kombu.
    """
    for choice in choices or ():
        if "/" in choice or choice in registry.name_to_type:
            registry.enable(choice)


def disable_insecure_serializers(allowed: Iterable[str] | None = ("json",)) -> None:
    """Have consumers without an ``accept`` list refuse everything but JSON, or but your ``allowed`` ones.

    ``allowed`` are names or content types.  Producers can still serialize in every format.
    Raises ``SerializerNotInstalled`` for an unknown name.
    """
    for content_type in registry._decoders:
        registry.disable(content_type)
    for name in allowed or ():
        registry.enable(name)


def prepare_accept_content(
    content_types: Collection[str] | None, name_to_type: Mapping[str, str] | None = None
) -> set[str] | None:
    """Turn an ``accept`` list of names and content types into content types; ``None`` stays ``None``.

    Raises ``SerializerNotInstalled`` for an unknown name.
    """
    if content_types is None:
        return None
    if name_to_type:
        names = name_to_type
        unknown = [name for name in content_types if "/" not in name and name not in names]
        if unknown:
            raise SerializerNotInstalled(f"No encoder/decoder installed for {unknown[0]!r:.80}")
        return {name if "/" in name else names[name] for name in content_types}
    return {registry.content_type_of(name) for name in content_types}


register("json", _json.dumps, _json.loads, "application/json", "utf-8")
register("pickle", _pickle, pickle_loads, "application/x-python-serialize", "binary")
register("yaml", _yaml_dumps, _yaml_loads, "application/x-yaml", "utf-8")
register("msgpack", _msgpack_dumps, _msgpack_loads, "application/x-msgpack", "binary")
registry._set_default_serializer("json")
disable_insecure_serializers()
