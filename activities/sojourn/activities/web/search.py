"""The tool `web_search`, over a search engine of the operator's choice."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol
from urllib.parse import urlsplit

from sojourn.activities.context import ToolContext
from sojourn.activities.tool import Tool, ToolFailedError, tool
from sojourn.activities.web.domain import allows
from sojourn.types.agent import ToolOptions
from sojourn.types.content import ContentBlock, SearchResultBlock, TextBlock
from sojourn.types.error import InvalidRequestError
from sojourn.types.web import UserLocation

SEARCH_VARIABLE = "SOJOURN_SEARCH"

_LIMIT = timedelta(seconds=60)
_RESULTS = 10
_QUERY_CHARACTERS = 400


@dataclass(frozen=True, slots=True)
class SearchHit:
    """One result."""

    url: str
    title: str
    text: str
    """What the page says about it."""


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """What is searched for."""

    text: str
    limit: int
    allowed_domains: tuple[str, ...] = ()
    """A wish: what comes back is judged again."""
    blocked_domains: tuple[str, ...] = ()
    location: UserLocation | None = None

    @property
    def narrowed(self) -> str:
        """The text with the domains in the words that most engines know."""
        if self.allowed_domains and len(self.allowed_domains) <= 8:
            return f"{self.text} ({' OR '.join(f'site:{each}' for each in self.allowed_domains)})"
        return " ".join([self.text, *(f"-site:{each}" for each in self.blocked_domains[:8])])


class SearchError(Exception):
    """The engine gave no results, with the reason in words for the model."""


class SearchBackend(Protocol):
    """A search engine."""

    async def search(self, query: SearchQuery) -> Sequence[SearchHit]:
        """Search, best result first.

        Raises:
            SearchError: The engine refuses or does not answer.
        """
        ...


def web_search_tool(backend: SearchBackend | None) -> Tool:
    """Make the tool; without a backend its calls fail and say how to get one."""

    @tool(idempotent=True, timeout=_LIMIT)
    async def web_search(query: str, context: ToolContext) -> list[ContentBlock]:
        """Search the web. Results have a title, a URL and an excerpt; fetch a page to read all of it.

        Args:
            query: What to search for.
        """
        if backend is None:
            raise ToolFailedError(
                f"unavailable: this worker has no search engine; the operator sets {SEARCH_VARIABLE} to searxng:URL,"
                " brave or tavily"
            )
        if not query.strip() or len(query) > _QUERY_CHARACTERS:
            raise ToolFailedError(f"invalid_tool_input: a query has 1 to {_QUERY_CHARACTERS} characters")
        try:
            hits = await backend.search(_query(query.strip(), context.options))
        except SearchError as error:
            raise ToolFailedError(f"unavailable: {error}") from None
        blocks = [_block(hit) for hit in hits if _shown(hit, context.options)][:_RESULTS]
        return [*blocks] or [TextBlock(text="No results.")]

    return web_search


def backend_from_environment() -> SearchBackend | None:
    """The engine that `SOJOURN_SEARCH` names; ``None`` if it is not set.

    ``searxng:URL``, ``brave`` or ``tavily``. The keys of the last two are in ``BRAVE_API_KEY`` and ``TAVILY_API_KEY``,
    or in the variable that ``brave:env:NAME`` names.

    Raises:
        InvalidRequestError: It names none, or its key is missing.
    """
    # Here, because the engines know this module.
    from sojourn.activities.web.engine import Brave, SearxNG, Tavily

    text = os.environ.get(SEARCH_VARIABLE, "").strip()
    name, _, rest = text.partition(":")
    if not text:
        return None
    if name == "searxng" and urlsplit(rest).scheme in ("http", "https") and urlsplit(rest).hostname:
        return SearxNG(rest)
    if name == "brave" and (not rest or rest.startswith("env:")):
        return Brave(_key(rest, "BRAVE_API_KEY"))
    if name == "tavily" and (not rest or rest.startswith("env:")):
        return Tavily(_key(rest, "TAVILY_API_KEY"))
    raise InvalidRequestError(
        f"{SEARCH_VARIABLE}: {text[:80]!r} is no search engine; write searxng:URL, brave or tavily",
        param=SEARCH_VARIABLE,
    )


def _key(reference: str, usual: str) -> str:
    name = reference.removeprefix("env:") or usual
    if key := os.environ.get(name, "").strip():
        return key
    raise InvalidRequestError(f"{SEARCH_VARIABLE}: the key is to be in {name}, which is not set", param=SEARCH_VARIABLE)


def _query(text: str, options: ToolOptions | None) -> SearchQuery:
    if options is None:
        return SearchQuery(text, 2 * _RESULTS)
    return SearchQuery(
        text, 2 * _RESULTS, options.allowed_domains, options.blocked_domains, location=options.user_location
    )


def _shown(hit: SearchHit, options: ToolOptions | None) -> bool:
    try:
        parts = urlsplit(hit.url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and allows(options, parts)


def _block(hit: SearchHit) -> SearchResultBlock:
    text = hit.text.strip()[:4000] or hit.title.strip()[:500] or hit.url
    return SearchResultBlock(
        source=hit.url[:2048], title=hit.title.strip()[:500] or hit.url, content=(TextBlock(text=text),)
    )
