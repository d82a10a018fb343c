import json
from collections.abc import Sequence
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.activities.web.conftest import Page, Web, called

from sojourn.activities.tool import ToolFailedError
from sojourn.activities.web import SearchBackend, SearchError, SearchHit, SearchQuery, web_tools
from sojourn.activities.web.engine import Brave, SearxNG, Tavily
from sojourn.activities.web.search import backend_from_environment, web_search_tool
from sojourn.types import InvalidRequestError, SearchResultBlock, ToolOptions, UserLocation
from sojourn.types.content import TextBlock

HITS = [
    SearchHit("https://docs.example.com/a", "A", "about a"),
    SearchHit("https://ads.example.com/track/b", "B", "about b"),
    SearchHit("https://example.org/", "", ""),
    SearchHit("javascript:alert(1)", "C", "about c"),
    SearchHit("http://[broken", "D", "about d"),
]


class Engine:
    def __init__(self, hits: Sequence[SearchHit] = HITS, failure: str | None = None) -> None:
        self.hits = hits
        self.failure = failure
        self.queries: list[SearchQuery] = []

    async def search(self, query: SearchQuery) -> Sequence[SearchHit]:
        self.queries.append(query)
        if self.failure:
            raise SearchError(self.failure)
        return self.hits


async def found(backend: SearchBackend | None, options: ToolOptions | None = None, query: str = "what") -> list[str]:
    blocks = await called(web_search_tool(backend), {"query": query}, options)
    return [block.source if isinstance(block, SearchResultBlock) else block.text for block in blocks]  # type: ignore[union-attr]


async def test_results_come_as_blocks(web: Web) -> None:
    blocks = await called(web_search_tool(Engine()), {"query": " what "})

    assert blocks[0] == SearchResultBlock(
        source="https://docs.example.com/a", title="A", content=(TextBlock(text="about a"),)
    )
    assert blocks[2] == SearchResultBlock(
        source="https://example.org/", title="https://example.org/", content=(TextBlock(text="https://example.org/"),)
    )
    assert len(blocks) == 3


async def test_settings_hold_whatever_the_engine_says() -> None:
    allowed = ToolOptions(allowed_domains=("example.com",))
    blocked = ToolOptions(blocked_domains=("ads.example.com/track", "example.org"))
    elsewhere = ToolOptions(allowed_domains=("ads.example.com/other",), user_location=UserLocation(country="CH"))
    engine = Engine()

    assert await found(engine, allowed) == ["https://docs.example.com/a", "https://ads.example.com/track/b"]
    assert await found(engine, blocked) == ["https://docs.example.com/a"]
    assert await found(engine, elsewhere) == ["No results."]
    assert engine.queries[0].narrowed == "what (site:example.com)"
    assert engine.queries[1].narrowed == "what -site:ads.example.com/track -site:example.org"
    assert engine.queries[2].location == UserLocation(country="CH")


async def test_at_most_ten_results_come() -> None:
    hits = [SearchHit(f"https://x.example/{number}", "t", "x") for number in range(30)]

    assert len(await found(Engine(hits))) == 10


async def test_worker_without_an_engine_says_how_to_get_one() -> None:
    with pytest.raises(ToolFailedError, match="the operator sets SOJOURN_SEARCH to searxng:URL, brave or tavily"):
        await found(None)


@pytest.mark.parametrize("query", ["", "  ", "x" * 401])
async def test_query_that_is_none_is_refused(query: str) -> None:
    with pytest.raises(ToolFailedError, match="invalid_tool_input"):
        await found(Engine(), query=query)


async def test_failure_of_the_engine_is_told() -> None:
    with pytest.raises(ToolFailedError, match="unavailable: over the limit"):
        await found(Engine(failure="over the limit"))


async def test_searxng_is_asked_for_json(web: Web) -> None:
    web.pages["/sub/search"] = Page(
        json.dumps({"results": [{"url": "https://x.example/", "title": "X", "content": None, "engine": "e"}]})
    )
    engine = SearxNG(f"http://127.0.0.1:{web.port}/sub/")

    hits = await engine.search(SearchQuery("a b", 5, allowed_domains=("x.example",)))

    assert hits == [SearchHit("https://x.example/", "X", "")]
    assert parse_qs(urlsplit(web.asked[0][2]).query) == {"q": ["a b (site:x.example)"], "format": ["json"]}


async def test_brave_is_asked_with_its_key_and_country(web: Web) -> None:
    answer = {
        "web": {"results": [{"url": "https://x.example/", "title": "<strong>X</strong> &amp; Y", "description": "d"}]}
    }
    web.pages["/res/v1/web/search"] = Page(json.dumps(answer))
    engine = Brave("the key", url=f"http://127.0.0.1:{web.port}")

    hits = await engine.search(SearchQuery("a", 50, location=UserLocation(country="CH")))

    assert hits == [SearchHit("https://x.example/", "X & Y", "d")]
    _, _, target, headers, _ = web.asked[0]
    assert headers["x-subscription-token"] == "the key"
    assert parse_qs(urlsplit(target).query) == {"q": ["a"], "count": ["20"], "country": ["CH"]}


async def test_brave_without_results_finds_nothing(web: Web) -> None:
    web.pages["/res/v1/web/search"] = Page("{}")

    assert await Brave("k", url=f"http://127.0.0.1:{web.port}").search(SearchQuery("a", 5)) == []


async def test_tavily_is_asked_with_domains(web: Web) -> None:
    web.pages["/search"] = Page(json.dumps({"results": [{"url": "https://x.example/", "title": "X", "content": "c"}]}))
    engine = Tavily("the key", url=f"http://127.0.0.1:{web.port}")

    hits = await engine.search(SearchQuery("a", 5, allowed_domains=("x.example/p",), blocked_domains=("y.example",)))

    assert hits == [SearchHit("https://x.example/", "X", "c")]
    _, method, _, headers, body = web.asked[0]
    assert (method, headers["authorization"]) == ("POST", "Bearer the key")
    assert json.loads(body) == {
        "query": "a",
        "max_results": 5,
        "include_domains": ["x.example"],
        "exclude_domains": ["y.example"],
    }


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (Page("no", status=403), "SearXNG answers with status 403; its settings must list json"),
        (Page("no", status=500), "SearXNG answers with status 500"),
        (Page("<html>"), "an answer that cannot be read"),
        (Page('{"results": [{"title": 1}]}'), "an answer that cannot be read"),
    ],
)
async def test_engine_that_fails_is_named(web: Web, page: Page, words: str) -> None:
    web.pages["/search"] = page

    with pytest.raises(SearchError, match=words):
        await SearxNG(f"http://127.0.0.1:{web.port}").search(SearchQuery("a", 5))


async def test_engine_that_is_not_there_is_named_without_the_query() -> None:
    with pytest.raises(SearchError) as error:
        await SearxNG("http://127.0.0.1:1").search(SearchQuery("hush", 5))

    assert "SearXNG cannot be reached" in str(error.value)
    assert "hush" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("searxng:http://search.internal:8888", SearxNG),
        ("brave", Brave),
        ("brave:env:OTHER_KEY", Brave),
        ("tavily", Tavily),
    ],
)
def test_environment_names_the_engine(monkeypatch: pytest.MonkeyPatch, text: str, kind: type) -> None:
    monkeypatch.setenv("SOJOURN_SEARCH", text)
    for name in ("BRAVE_API_KEY", "TAVILY_API_KEY", "OTHER_KEY"):
        monkeypatch.setenv(name, "key")

    assert isinstance(backend_from_environment(), kind)


def test_environment_without_an_engine_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOJOURN_SEARCH", raising=False)

    assert backend_from_environment() is None
    assert [tool.name for tool in web_tools()] == ["web_fetch", "web_search"]


@pytest.mark.parametrize("text", ["google", "searxng", "searxng:ftp://x", "brave:the-key-itself", "brave"])
def test_environment_that_names_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SOJOURN_SEARCH", text)
    monkeypatch.delenv("BRAVE_API_KEY", raising=False)

    with pytest.raises(InvalidRequestError, match="SOJOURN_SEARCH: "):
        backend_from_environment()
