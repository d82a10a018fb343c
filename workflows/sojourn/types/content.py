"""Content blocks of messages and tool results (Managed Agents API §2)."""

from typing import Annotated, Literal

from pydantic import Field

from sojourn.types.wire import Omitted, Wire


class Base64Source(Wire):
    """Bytes in line, base64."""

    type: Literal["base64"] = "base64"
    media_type: str = Field(min_length=1)
    data: str


class UrlSource(Wire):
    """Bytes that the model's provider fetches itself."""

    type: Literal["url"] = "url"
    url: str = Field(min_length=1, max_length=2048)


class FileSource(Wire):
    """A file uploaded before."""

    type: Literal["file"] = "file"
    file_id: str = Field(min_length=1)


class PlainTextSource(Wire):
    """A text document in line."""

    type: Literal["text"] = "text"
    media_type: Literal["text/plain"] = "text/plain"
    data: str


class TextBlock(Wire):
    """Text."""

    type: Literal["text"] = "text"
    text: str


class ImageBlock(Wire):
    """An image."""

    type: Literal["image"] = "image"
    source: Annotated[Base64Source | UrlSource | FileSource, Field(discriminator="type")]


class DocumentBlock(Wire):
    """A document such as a PDF or a plain text."""

    type: Literal["document"] = "document"
    source: Annotated[Base64Source | PlainTextSource | UrlSource | FileSource, Field(discriminator="type")]
    title: Annotated[str | None, Omitted] = None
    context: Annotated[str | None, Omitted] = None


class Citations(Wire):
    """Whether the model may cite the block."""

    enabled: bool = False


class SearchResultBlock(Wire):
    """One hit of a search, for tool results."""

    type: Literal["search_result"] = "search_result"
    source: str
    title: str
    content: tuple[TextBlock, ...]
    citations: Citations = Citations()


MessageBlock = Annotated[TextBlock | ImageBlock | DocumentBlock, Field(discriminator="type")]
"""What a user message may hold."""

ContentBlock = Annotated[TextBlock | ImageBlock | DocumentBlock | SearchResultBlock, Field(discriminator="type")]
"""What a tool result may hold."""


def text_of(content: tuple[ContentBlock, ...] | list[ContentBlock]) -> str:
    """The text blocks, joined by newlines."""
    return "\n".join(block.text for block in content if isinstance(block, TextBlock))


IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
"""What models see."""

_TEXTS = ("application/json", "application/xml", "application/x-ndjson", "application/yaml")


def is_text(mime_type: str) -> bool:
    """Whether models are shown a file of this type as text."""
    return mime_type.startswith("text/") or mime_type in _TEXTS


def fits(block: ImageBlock | DocumentBlock, mime_type: str) -> bool:
    """Whether a file of this type can stand in the block."""
    if isinstance(block, ImageBlock):
        return mime_type in IMAGES
    return mime_type == "application/pdf" or is_text(mime_type)
