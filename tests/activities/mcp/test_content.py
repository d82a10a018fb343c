from base64 import b64encode

import pytest
from mcp import types

from sojourn.activities.mcp.content import blocks
from sojourn.types.content import DocumentBlock, ImageBlock, TextBlock

PNG = b64encode(b"\x89PNG\r\n\x1a\n rest").decode()
PDF = b64encode(b"%PDF-1.7 rest").decode()


def texts(*found: str, structured: object = None) -> types.CallToolResult:
    content: list[types.ContentBlock] = [types.TextContent(type="text", text=text) for text in found]
    return types.CallToolResult(content=content, structured_content=structured)


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (texts("a", "b"), ["a", "b"]),
        (texts(structured={"a": 1}), ['{"a":1}']),
        (texts('{"a": 1}', structured={"a": 1}), ['{"a": 1}']),
        (texts("a", structured={"result": "a"}), ["a"]),
        (texts("3", structured={"result": 3}), ["3"]),
        (texts("a", "b", structured={"result": ["a", "b"]}), ["a", "b"]),
        (texts("short", structured={"long": "story"}), ["short", '{"long":"story"}']),
        (texts(structured=[]), ["[]"]),
        (texts(), []),
    ],
)
def test_structured_content_is_told_unless_the_text_tells_it(result: types.CallToolResult, said: list[str]) -> None:
    assert [block.text for block in blocks(result) if isinstance(block, TextBlock)] == said


@pytest.mark.parametrize(
    ("media_type", "data", "kind"),
    [
        ("image/png", PNG, ImageBlock),
        ("IMAGE/PNG; charset=x", PNG, ImageBlock),
        ("image/png", "no base64!", TextBlock),
        ("image/png", PDF, TextBlock),
        ("image/svg+xml", PNG, TextBlock),
        ("", "", TextBlock),
    ],
)
def test_image_that_no_provider_takes_is_left_out(media_type: str, data: str, kind: type) -> None:
    image = types.ImageContent(type="image", data=data, mime_type=media_type)

    (block,) = blocks(types.CallToolResult(content=[image]))

    assert type(block) is kind


def test_embedded_pdf_becomes_a_document() -> None:
    resource = types.BlobResourceContents(uri="file://a.pdf", blob=PDF, mime_type="application/pdf")

    _, block = blocks(types.CallToolResult(content=[types.EmbeddedResource(type="resource", resource=resource)]))

    assert isinstance(block, DocumentBlock)
