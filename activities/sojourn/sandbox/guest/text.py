"""Bytes of a file as text and back, without a byte lost."""

from __future__ import annotations

import codecs

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
)
HEAD = 16
"""Bytes at the start of a file that `media_type` needs."""


def media_type(head: bytes) -> str | None:
    """What kind of image or document a file is by its first bytes; ``None`` for any other.

    Its name does not count: a model's API would refuse a text that is sent as an image because it is called ``a.png``.
    """
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for magic, kind in _MAGIC if head.startswith(magic)), None)


def decode(data: bytes) -> tuple[str, str] | None:
    """The text and its encoding; ``None`` if the bytes are no text.

    `encode` gives the very same bytes again. What is neither UTF-8 nor marked as UTF-16 is taken for Latin-1, which
    any bytes without a NUL can be.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            text = _strictly(data[len(mark) :], "utf-8" if encoding == "utf-8-sig" else encoding)
            if text is not None:
                return text, encoding
    if b"\0" in data:
        return None
    text = _strictly(data, "utf-8")
    return (text, "utf-8") if text is not None else (data.decode("latin-1"), "latin-1")


def encode(text: str, encoding: str) -> bytes:
    """The bytes of a text that `decode` gave, perhaps changed since.

    Raises:
        UnicodeEncodeError: The encoding cannot express it.
    """
    mark = next((mark for mark, name in _MARKS if name == encoding), b"")
    return mark + text.encode("utf-8" if encoding == "utf-8-sig" else encoding)


def _strictly(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None
