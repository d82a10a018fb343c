"""Search engines that `web_search` can use."""

import html
import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

import httpx2
from pydantic import BaseModel, ConfigDict, ValidationError

from sojourn.activities.web.search import SearchError, SearchHit, SearchQuery

T = TypeVar("T", bound=BaseModel)

_SECONDS = 30.0


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _SearxResult(_Part):
    url: str
    title: str = ""
    content: str | None = None


class _SearxAnswer(_Part):
    results: list[_SearxResult] = []


class SearxNG:
    """A SearXNG instance that the operator runs; its JSON format must be enabled (``search.formats``).

    Args:
        url: Of the instance; it may be private.
    """

    def __init__(self, url: str) -> None:
        self._url = f"{url.rstrip('/')}/search"

    async def search(self, query: SearchQuery) -> Sequence[SearchHit]:
        params = {"q": query.narrowed, "format": "json"}
        answer = await _asked("SearXNG", _SearxAnswer, "GET", self._url, params=params)
        return [SearchHit(each.url, each.title, each.content or "") for each in answer.results[: query.limit]]


class _BraveResult(_Part):
    url: str
    title: str = ""
    description: str = ""
    extra_snippets: list[str] = []


class _BraveWeb(_Part):
    results: list[_BraveResult] = []


class _BraveAnswer(_Part):
    web: _BraveWeb | None = None


class Brave:
    """The API of Brave Search.

    Args:
        key: The subscription's.
        url: Of the API.
    """

    def __init__(self, key: str, *, url: str = "https://api.search.brave.com") -> None:
        self._headers = {"X-Subscription-Token": key}
        self._url = f"{url}/res/v1/web/search"

    async def search(self, query: SearchQuery) -> Sequence[SearchHit]:
        params = {"q": query.narrowed, "count": str(min(query.limit, 20))}
        if query.location is not None and query.location.country is not None:
            params["country"] = query.location.country
        answer = await _asked("Brave", _BraveAnswer, "GET", self._url, params=params, headers=self._headers)
        results = answer.web.results if answer.web else []
        return [
            SearchHit(each.url, _plain(each.title), "\n".join(map(_plain, (each.description, *each.extra_snippets))))
            for each in results
        ]


class _TavilyResult(_Part):
    url: str
    title: str = ""
    content: str = ""


class _TavilyAnswer(_Part):
    results: list[_TavilyResult] = []


class Tavily:
    """The API of Tavily.

    Args:
        key: The account's.
        url: Of the API.
    """

    def __init__(self, key: str, *, url: str = "https://api.tavily.com") -> None:
        self._headers = {"Authorization": f"Bearer {key}"}
        self._url = f"{url}/search"

    async def search(self, query: SearchQuery) -> Sequence[SearchHit]:
        body = {
            "query": query.text,
            "max_results": min(query.limit, 20),
            "include_domains": [each.partition("/")[0] for each in query.allowed_domains],
            # A domain with a path is blocked only in part: what comes back is judged again.
            "exclude_domains": [each for each in query.blocked_domains if "/" not in each],
        }
        answer = await _asked("Tavily", _TavilyAnswer, "POST", self._url, headers=self._headers, body=body)
        return [SearchHit(each.url, each.title, each.content) for each in answer.results]


async def _asked(
    name: str,
    kind: type[T],
    method: str,
    url: str,
    *,
    params: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    body: Mapping[str, object] | None = None,
) -> T:
    try:
        async with httpx2.AsyncClient(timeout=_SECONDS) as client:
            response = await client.request(method, url, params=params, headers=headers, json=body)
        if response.status_code != 200:
            raise SearchError(f"{name} answers with status {response.status_code}{_hint(name, response.status_code)}")
        return kind.model_validate_json(response.content)
    except httpx2.HTTPError as error:
        # Without the error's text: it may hold the URL with the query.
        raise SearchError(f"{name} cannot be reached ({type(error).__name__})") from None
    except ValidationError:
        raise SearchError(f"{name} gives an answer that cannot be read") from None


def _hint(name: str, status: int) -> str:
    if name == "SearXNG" and status == 403:
        return "; its settings must list json under search.formats"
    return "; the operator checks the key" if status in (401, 403) else ""


def _plain(text: str) -> str:
    return html.unescape(re.sub(r"</?[a-z]+>", "", text))
