import base64
import contextlib
import gzip

import pytest
from tests.activities.web.conftest import Page, Web

from sojourn.activities.tool import ToolFailedError
from sojourn.types import ContentBlock, DocumentBlock, ImageBlock, TextBlock, ToolOptions

HTML = """<!doctype html><html><head><title> A
 page </title><style>x{}</style></head><body><nav>Menu</nav><h1>Head</h1><p>Some <b>bold</b>
<a href="/x">link</a></p><script>alert(1)</script><ul><li>one<li>two</ul>
<table><tr><th>k<th>v</tr><tr><td>1<td>2</tr></table><pre>a  b</pre>
<img src="data:image/png;base64,AAAA"></body></html>"""


def text_of(blocks: list[ContentBlock]) -> str:
    (block,) = blocks
    assert isinstance(block, TextBlock)
    return block.text


async def test_page_comes_as_markdown_without_what_is_no_text(web: Web) -> None:
    web.pages["/"] = Page(HTML)

    text = text_of(await web.fetch(f"{web.base}/"))

    assert text.startswith(f"# A page\n\nSource: {web.base}/\n\n")
    for part in ("# Head", "**bold**", "[link](/x)", "- one", "| k | v |", "a  b"):
        assert part in text
    for part in ("alert", "x{}", "AAAA"):
        assert part not in text


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        ("application/json", '{"a": "<b>"}', '{"a": "<b>"}'),
        ("application/ld+json", "{}", "{}"),
        ("application/xml; charset=utf-8", "<a>\u00e9</a>", "<a>\u00e9</a>"),
        ("text/plain; charset=iso-8859-1", b"caf\xe9", "caf\u00e9"),
        ("text/plain; charset=nonsense", "plain", "plain"),
        ("text/plain", b"\xff\xfe broken", "\ufffd\ufffd broken"),
        (None, "untold", "untold"),
    ],
)
async def test_text_comes_as_it_is(web: Web, kind: str | None, body: str | bytes, expected: str) -> None:
    web.pages["/x"] = Page(body, kind)

    assert text_of(await web.fetch(f"{web.base}/x?q=1")) == f"Source: {web.base}/x?q=1\n\n{expected}"


async def test_page_in_another_encoding_is_read(web: Web) -> None:
    web.pages["/told"] = Page("<p>\u65e5\u672c".encode("shift_jis"), "text/html; charset=shift_jis")
    web.pages["/says"] = Page("<meta charset=shift_jis><p>\u65e5\u672c".encode("shift_jis"))

    assert "\u65e5\u672c" in text_of(await web.fetch(f"{web.base}/told"))
    assert "\u65e5\u672c" in text_of(await web.fetch(f"{web.base}/says"))


async def test_packed_answer_is_unpacked(web: Web) -> None:
    web.pages["/"] = Page(gzip.compress(b"inside"), "text/plain", headers=[("Content-Encoding", "gzip")])

    assert text_of(await web.fetch(f"{web.base}/")).endswith("\n\ninside")


async def test_image_and_pdf_come_as_blocks(web: Web) -> None:
    png, pdf = b"\x89PNG\r\n\x1a\nrest", b"%PDF-1.7 rest"
    web.pages |= {"/i": Page(png, "image/png"), "/d": Page(pdf, "application/pdf")}

    (image,), (document,) = await web.fetch(f"{web.base}/i"), await web.fetch(f"{web.base}/d")

    assert isinstance(image, ImageBlock)
    assert isinstance(document, DocumentBlock)
    assert image.source.model_dump()["data"] == base64.b64encode(png).decode()
    assert document.source.model_dump()["media_type"] == "application/pdf"
    assert document.title == f"{web.base}/d"


async def test_file_that_is_not_what_its_server_says_is_refused(web: Web) -> None:
    web.pages["/"] = Page("<html>", "image/png")

    with pytest.raises(ToolFailedError, match=r"unsupported_content_type: .* is not the image/png"):
        await web.fetch(f"{web.base}/")


@pytest.mark.parametrize(
    ("page", "code"),
    [
        (Page("x", status=404), "url_not_accessible: .* status 404"),
        (Page("x", status=500), "url_not_accessible: .* status 500"),
        (Page("x", status=429), "too_many_requests"),
        (Page(b"\x00", "application/octet-stream"), "unsupported_content_type: application/octet-stream"),
        (Page(bytes(6_000_000), "image/png"), "content_too_large"),
    ],
)
async def test_what_cannot_be_shown_is_an_error_with_its_code(web: Web, page: Page, code: str) -> None:
    web.pages["/"] = page

    with pytest.raises(ToolFailedError, match=code):
        await web.fetch(f"{web.base}/")


async def test_page_that_is_nested_without_end_is_read_or_refused(web: Web) -> None:
    web.pages["/"] = Page("<p>begin" + "<div><b>" * 50_000 + "deep")

    with contextlib.suppress(ToolFailedError):
        assert "begin" in text_of(await web.fetch(f"{web.base}/"))


async def test_long_text_is_cut_with_a_note(web: Web) -> None:
    web.pages |= {"/long": Page("x" * 150_000, "text/plain"), "/huge": Page(b"y" * 9_000_000, "text/plain")}
    few = ToolOptions(max_content_tokens=10)

    for text in [text_of(await web.fetch(f"{web.base}{path}")) for path in ("/long", "/huge")]:
        assert len(text) < 100_200
        assert text.endswith("\n\n[The rest was cut off.]")
    short = text_of(await web.fetch(f"{web.base}/long", few))
    assert short == f"Source: {web.base}/long\n\n{'x' * 40}\n\n[The rest was cut off.]"


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("ftp://a.example/", "invalid_tool_input"),
        ("file:///etc/passwd", "invalid_tool_input"),
        ("a.example", "invalid_tool_input"),
        ("http://", "invalid_tool_input"),
        ("http://a.example:99999/", "invalid_tool_input"),
        ("http://[::1/", "invalid_tool_input"),
        ("http://user:pass@a.example/", "invalid_tool_input"),
        ("http://a.example/" + "x" * 3000, "url_too_long"),
        ("http://127.0.0.1/", "url_not_allowed"),
        ("http://127.1/", "url_not_allowed"),
        ("http://0x7f000001/", "url_not_allowed"),
        ("http://[::1]/", "url_not_allowed"),
        ("http://[::ffff:169.254.169.254]/", "url_not_allowed"),
        ("http://169.254.169.254/latest/meta-data", "url_not_allowed"),
        ("http://localhost/", "url_not_allowed"),
        ("http://private.example/", "url_not_allowed"),
        ("http://other.example/", "url_not_allowed"),
    ],
)
async def test_url_that_may_not_be_fetched_is_refused_before_anything_is_sent(web: Web, url: str, code: str) -> None:
    with pytest.raises(ToolFailedError, match=f"^{code}: "):
        await web.fetch(url)

    assert web.asked == []


async def test_redirect_is_followed_and_the_last_url_is_told(web: Web) -> None:
    web.pages["/old"] = Page(status=302, headers=[("Location", f"http://b.example:{web.port}/new")])
    web.pages["/new"] = Page(status=308, headers=[("Location", "newer#part")])
    web.pages["/newer"] = Page("there", "text/plain")

    text = text_of(await web.fetch(f"{web.base}/old"))

    assert text == f"Source: http://b.example:{web.port}/newer#part\n\nthere"
    assert [host for host, *_ in web.asked] == [f"{name}.example:{web.port}" for name in ("a", "b", "b")]


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:{port}/",
        "http://private.example:{port}/",
        "//[::1]:{port}/",
        "file:///etc/passwd",
        "ftp://a.example/",
    ],
)
async def test_redirect_to_where_nobody_may_go_is_refused(web: Web, location: str) -> None:
    web.pages["/"] = Page(status=302, headers=[("Location", location.format(port=web.port))])

    with pytest.raises(ToolFailedError, match=r"url_not_allowed|invalid_tool_input"):
        await web.fetch(f"{web.base}/")

    assert len(web.asked) == 1


async def test_redirects_come_to_an_end(web: Web) -> None:
    web.pages["/"] = Page(status=302, headers=[("Location", "/")])

    with pytest.raises(ToolFailedError, match="more than 5 redirects"):
        await web.fetch(f"{web.base}/")

    assert len(web.asked) == 6


async def test_allowed_domains_hold_for_redirects_too(web: Web) -> None:
    options = ToolOptions(allowed_domains=("A.example",))
    web.pages["/"] = Page("fine", "text/plain")
    web.pages["/away"] = Page(status=302, headers=[("Location", f"http://b.example:{web.port}/")])

    assert "fine" in text_of(await web.fetch(f"{web.base}/", options))
    assert "fine" in text_of(await web.fetch(f"http://SUB.a.example.:{web.port}/", options))
    for url in (f"http://b.example:{web.port}/", f"{web.base}/away", f"http://nota.example:{web.port}/"):
        with pytest.raises(ToolFailedError, match=r"^url_not_allowed: .* is not among the domains"):
            await web.fetch(url, options)


async def test_blocked_domains_are_refused_with_all_below_them(web: Web) -> None:
    options = ToolOptions(blocked_domains=("a.example",))
    web.pages["/"] = Page("fine", "text/plain")

    assert "fine" in text_of(await web.fetch(f"http://b.example:{web.port}/", options))
    for host in ("a.example", "sub.a.example", "A.EXAMPLE."):
        with pytest.raises(ToolFailedError, match=r"^url_not_allowed"):
            await web.fetch(f"http://{host}:{web.port}/", options)


async def test_name_is_looked_up_once_for_a_connection(web: Web) -> None:
    """What is connected to is what was judged: a second answer of the name server would change nothing."""
    web.pages["/"] = Page("fine", "text/plain")

    await web.fetch(f"{web.base}/")

    assert web.looked_up == ["a.example"]


async def test_host_that_does_not_answer_is_an_error(web: Web) -> None:
    port = web.port
    web.port = 1

    with pytest.raises(ToolFailedError, match="url_not_accessible"):
        await web.fetch(f"{web.base}/")
    web.port = port


def test_tool_is_told_to_the_model_by_its_url_alone(web: Web) -> None:
    tool = web.tool()

    assert tool.name == "web_fetch"
    assert tool.idempotent
    assert list(tool.input_schema["properties"]) == ["url"]  # type: ignore[arg-type]
