"""The tool `web_fetch`: a page, document or image of the web, fetched by the worker."""

import asyncio
import base64
import re
import ssl
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import SplitResult, urljoin, urlsplit

import httpx2

from sojourn.activities.context import ToolContext
from sojourn.activities.estimate import BYTES_PER_TOKEN
from sojourn.activities.tool import Tool, ToolFailedError, tool
from sojourn.activities.web.domain import allows
from sojourn.activities.web.page import read_page
from sojourn.sandbox.address import NONE, AddressRefusedError, PrivateHosts, Resolver, system_addresses
from sojourn.sandbox.transport import PublicTransport
from sojourn.types.agent import ToolOptions
from sojourn.types.content import Base64Source, ContentBlock, DocumentBlock, ImageBlock, TextBlock

_LIMIT = timedelta(seconds=90)
_WAIT = timedelta(seconds=30)
"""For a connection, and for each next piece."""
_REDIRECTS = 5
_URL_CHARACTERS = 2048

_TEXT_BYTES = 8 * 1024**2
_HTML_BYTES = 3 * 512 * 1024
"""Reading the densest page takes 7 seconds for each million bytes."""
_PDF_BYTES = 20 * 1024**2
_IMAGE_BYTES = 5 * 1024**2 * 3 // 4
"""5 MiB in base64."""
_RESULT_CHARACTERS = 100_000

_IMAGES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
# A file that is not what its server says would be refused by the model's provider, in every later step too.
_SIGNATURES = {
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/gif": re.compile(rb"GIF8[79]a"),
    "image/webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "application/pdf": re.compile(rb".{0,1024}?%PDF-", re.DOTALL),
}
_HTML = frozenset({"text/html", "application/xhtml+xml"})
_TEXTS = frozenset({"application/json", "application/xml", "application/javascript", "application/x-ndjson"})

_HEADERS = {
    "User-Agent": "sojourn-web-fetch/1.0",
    "Accept": "text/markdown, text/html;q=0.9, text/plain;q=0.8, */*;q=0.5",
    "Accept-Encoding": "gzip, deflate",
}


@dataclass(frozen=True, slots=True)
class _Found:
    url: str
    kind: str
    encoding: str | None
    data: bytes
    whole: bool


def web_fetch_tool(
    *, private: PrivateHosts = NONE, resolver: Resolver = system_addresses, trust: ssl.SSLContext | None = None
) -> Tool:
    """Make the tool.

    Args:
        private: Hosts that may have private addresses.
        resolver: From names to addresses.
        trust: Whose certificates are accepted; the machine's by default.
    """

    @tool(idempotent=True, timeout=_LIMIT)
    async def web_fetch(url: str, context: ToolContext) -> list[ContentBlock]:
        """Fetch a page, a PDF or an image from the public web by its URL. Pages come as markdown.

        Args:
            url: Complete, with http or https.
        """
        transport = PublicTransport(private=private, resolver=resolver, trust=trust)
        async with httpx2.AsyncClient(
            transport=transport, trust_env=False, timeout=_WAIT.total_seconds(), headers=_HEADERS
        ) as client:
            try:
                return await _blocks(await _fetch(client, url, context.options), context.options)
            except AddressRefusedError as error:
                raise ToolFailedError(f"url_not_allowed: {error}") from None
            except httpx2.TimeoutException:
                raise ToolFailedError(f"url_not_accessible: {_short(url)} does not answer") from None
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                raise ToolFailedError(f"url_not_accessible: {_short(url)}: {error}") from None

    return web_fetch


async def _fetch(client: httpx2.AsyncClient, url: str, options: ToolOptions | None) -> _Found:
    for _ in range(_REDIRECTS + 1):
        _checked(url, options)
        async with client.stream("GET", url, follow_redirects=False) as response:
            if not response.has_redirect_location:
                return await _received(response, url)
            url = urljoin(url, response.headers["location"])
    raise ToolFailedError(f"url_not_accessible: more than {_REDIRECTS} redirects")


def _checked(url: str, options: ToolOptions | None) -> SplitResult:
    """Also each address that a redirect names: it could lead anywhere."""
    if len(url) > _URL_CHARACTERS:
        raise ToolFailedError(f"url_too_long: a URL has {_URL_CHARACTERS} characters at most")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ToolFailedError(f"invalid_tool_input: {_short(url)} is no URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ToolFailedError(f"invalid_tool_input: {_short(url)} is no URL with http or https")
    if "@" in parts.netloc:
        raise ToolFailedError("invalid_tool_input: a URL with credentials is not fetched")
    if not allows(options, parts):
        raise ToolFailedError(f"url_not_allowed: {parts.hostname} is not among the domains that may be fetched")
    return parts


async def _received(response: httpx2.Response, url: str) -> _Found:
    if response.status_code == 429:
        raise ToolFailedError(f"too_many_requests: {_short(url)} wants to be asked later")
    if response.status_code >= 400:
        raise ToolFailedError(f"url_not_accessible: {_short(url)} answers with status {response.status_code}")
    kind = response.headers.get("content-type", "text/plain").partition(";")[0].strip().lower()
    limit = _limit(kind)
    data, whole = bytearray(), True
    async for piece in response.aiter_bytes():
        data += piece
        if len(data) > limit:
            whole = False
            break
    if not whole and not _is_text(kind):
        raise ToolFailedError(f"content_too_large: more than {limit} bytes of {kind}")
    return _Found(url, kind, response.charset_encoding, bytes(data[:limit]), whole)


def _limit(kind: str) -> int:
    if kind == "application/pdf":
        return _PDF_BYTES
    if kind in _IMAGES:
        return _IMAGE_BYTES
    if _is_text(kind):
        return _HTML_BYTES if kind in _HTML else _TEXT_BYTES
    raise ToolFailedError(
        f"unsupported_content_type: {kind[:100]}; text, HTML, JSON, XML, PDF and images are supported"
    )


def _is_text(kind: str) -> bool:
    return kind.startswith("text/") or kind in _TEXTS or kind in _HTML or kind.endswith(("+json", "+xml"))


async def _blocks(found: _Found, options: ToolOptions | None) -> list[ContentBlock]:
    if not _is_text(found.kind):
        if not _SIGNATURES[found.kind].match(found.data):
            raise ToolFailedError(f"unsupported_content_type: {_short(found.url)} is not the {found.kind} that it says")
        source = Base64Source(media_type=found.kind, data=base64.b64encode(found.data).decode())
        if found.kind in _IMAGES:
            return [ImageBlock(source=source)]
        return [DocumentBlock(source=source, title=found.url)]
    title, text = await _text(found)
    tokens = options.max_content_tokens if options else None
    most = _RESULT_CHARACTERS if tokens is None else min(tokens * BYTES_PER_TOKEN, _RESULT_CHARACTERS)
    # Tokens are guessed from bytes; a text of wide characters has fewer characters in them.
    shown = text.encode()[: most if tokens is not None else None].decode(errors="ignore")[:most]
    note = "" if found.whole and len(shown) == len(text) else "\n\n[The rest was cut off.]"
    head = f"# {title}\n\n" if title else ""
    return [TextBlock(text=f"{head}Source: {found.url}\n\n{shown}{note}")]


async def _text(found: _Found) -> tuple[str, str]:
    if found.kind in _HTML:
        try:
            page = await asyncio.to_thread(read_page, found.data, encoding=found.encoding)
        except ValueError as error:
            raise ToolFailedError(f"unsupported_content_type: {error}") from None
        return page.title, page.text
    try:
        return "", found.data.decode(found.encoding or "utf-8", errors="replace")
    except LookupError:
        return "", found.data.decode(errors="replace")


def _short(url: str) -> str:
    return repr(url[:200])
