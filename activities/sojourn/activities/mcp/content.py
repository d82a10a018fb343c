"""What an MCP server hands back, as blocks that every model takes."""

import json
from base64 import b64decode
from binascii import Error as BinasciiError
from collections.abc import Iterable, Iterator

from mcp import types
from pydantic import JsonValue
from pydantic_core import to_json

from sojourn.types.content import Base64Source, ContentBlock, DocumentBlock, ImageBlock, TextBlock

_PDF = "application/pdf"
_MARKS: dict[str, tuple[bytes, ...]] = {
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF87a", b"GIF89a"),
    "image/webp": (b"RIFF",),
    _PDF: (b"%PDF-",),
}
"""How files of the kinds that models take begin."""


def blocks(result: types.CallToolResult) -> tuple[ContentBlock, ...]:
    """The content of a result, and what it says in structured form if its text does not say it too."""
    found = [block for each in result.content for block in _block(each)]
    if result.structured_content is not None and not _says(found, result.structured_content):
        found.append(TextBlock(text=to_json(result.structured_content).decode()))
    return tuple(found)


def _says(found: Iterable[ContentBlock], structured: JsonValue) -> bool:
    texts: list[JsonValue] = [block.text for block in found if isinstance(block, TextBlock)]
    read = [_read(str(text)) for text in texts]
    # Servers of functions that return a text or a list wrap it, and say what is inside as it is.
    wraps = isinstance(structured, dict) and structured.keys() == {"result"}
    inner = structured["result"] if wraps and isinstance(structured, dict) else structured
    return bool(texts) and (structured in read or inner in (*texts, *read, texts, read))


def _read(text: str) -> JsonValue:
    try:
        found: JsonValue = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return found


def _block(block: types.ContentBlock) -> Iterator[ContentBlock]:
    match block:
        case types.TextContent():
            yield TextBlock(text=block.text)
        case types.ImageContent():
            yield _file(block.mime_type, block.data, "an image")
        case types.AudioContent():
            yield _left_out("a sound", block.mime_type, block.data)
        case types.ResourceLink():
            about = f": {block.description}" if block.description else ""
            yield TextBlock(text=f"[Resource {block.name!r} at {block.uri}{about}]")
        case types.EmbeddedResource(resource=types.TextResourceContents() as text):
            yield TextBlock(text=f"[Resource {text.uri}]\n{text.text}")
        case types.EmbeddedResource(resource=types.BlobResourceContents() as blob):
            yield TextBlock(text=f"[Resource {blob.uri}]")
            yield _file(blob.mime_type or "", blob.blob, "a file")


def _file(media_type: str, data: str, what: str) -> ContentBlock:
    # A provider refuses the whole conversation, for ever, over an image that is none.
    media_type = media_type.partition(";")[0].strip().lower()
    if not _begins(data, _MARKS.get(media_type, ())):
        return _left_out(what, media_type, data)
    source = Base64Source(media_type=media_type, data=data)
    return DocumentBlock(source=source) if media_type == _PDF else ImageBlock(source=source)


def _begins(data: str, marks: tuple[bytes, ...]) -> bool:
    try:
        return b64decode(data, validate=True).startswith(marks)
    except (BinasciiError, ValueError):
        return False


def _left_out(what: str, media_type: str, data: str) -> TextBlock:
    return TextBlock(text=f"[Left out: {what} of type {media_type[:100] or 'unknown'}, {len(data) * 3 // 4:,} bytes]")
