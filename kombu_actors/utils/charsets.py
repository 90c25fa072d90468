"""Text and the charsets in which it travels."""

from __future__ import annotations

from encodings.aliases import aliases as _aliases
from typing import Any, Final

from ..errors import DecodeError, EncodeError

__all__ = ["SKIP_DECODE", "TEXT_CHARSETS", "decode_text", "encode_text"]

SKIP_DECODE: Final = frozenset({"binary", "ascii-8bit"})
"""Content encodings that mean bytes."""
TEXT_CHARSETS: Final = frozenset({
    "ascii", "utf_8", "utf_8_sig", "utf_16", "utf_16_be", "utf_16_le", "utf_32", "utf_32_be", "utf_32_le",
    "latin_1", *(f"iso8859_{n}" for n in range(2, 17) if n != 12), *(f"cp125{n}" for n in range(9)), "cp437",
    "cp850", "cp866", "koi8_r", "koi8_u", "mac_roman", "gbk", "gb2312", "gb18030", "big5", "hz", "shift_jis",
    "cp932", "euc_jp", "iso2022_jp", "euc_kr", "cp949",
})  # fmt: skip
"""Python's names of the charsets a sender may ask for.

A list, because Python's codecs include some that are no charsets (``rot13``, ``unicode_escape``),
some that run in quadratic time (``idna``), and looking up an unknown name imports modules.
"""


def encode_text(text: str, charset: str) -> bytes:
    """Encode text for a caller who named the charset; raises ``EncodeError``."""
    try:
        return text.encode(charset)
    except (LookupError, UnicodeError) as exc:
        raise EncodeError(f"can't encode text as content_encoding {charset!r:.80}: {exc}") from exc


def decode_text(data: Any, charset: str) -> str:
    """Decode a body by the charset its sender claims; raises ``DecodeError``."""
    name = charset.lower().replace("-", "_").replace(" ", "_")
    if _aliases.get(name, name) not in TEXT_CHARSETS:
        raise DecodeError(f"the content encoding {charset!r:.80} is not a charset known here")
    try:
        return bytes(data).decode(name)
    except UnicodeError as exc:
        raise DecodeError(f"this body is not text in {charset!r:.80}: {type(exc).__name__}: {exc}") from exc
