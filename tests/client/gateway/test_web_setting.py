import pytest
from pydantic import JsonValue

from sojourn.gateway.wire.tool import BuiltInTools, resolved
from sojourn.types import AgentToolset, InvalidRequestError, ToolOptions, UserLocation
from sojourn.types.wire import parse

FETCH: dict[str, JsonValue] = {
    "name": "web_fetch",
    "type": "web_fetch",
    "allowed_domains": ["docs.example.com", "example.org"],
    "max_content_tokens": 5000,
}
SEARCH: dict[str, JsonValue] = {
    "name": "web_search",
    "type": "web_search",
    "blocked_domains": ["ads.example.com/track"],
    "user_location": {"type": "approximate", "city": "Bern", "country": "CH"},
}


def stored(*configs: dict[str, JsonValue]) -> AgentToolset:
    return parse(BuiltInTools, {"type": "agent_toolset_20260401", "configs": list(configs)}).stored()


def test_settings_of_web_tools_are_stored_and_shown_so_that_they_can_be_sent_again() -> None:
    toolset = stored(FETCH, SEARCH, {"name": "bash"})
    shown = resolved(toolset).model_dump(mode="json")

    fetch, search, bash = toolset.configs
    assert fetch.allowed_domains == ("docs.example.com", "example.org")
    assert fetch.max_content_tokens == 5000
    assert search.blocked_domains == ("ads.example.com/track",)
    assert search.user_location == UserLocation(city="Bern", country="CH")
    assert shown["configs"][0] == {**FETCH, "enabled": True, "permission_policy": {"type": "always_allow"}}
    assert shown["configs"][1] == {**SEARCH, "enabled": True, "permission_policy": {"type": "always_allow"}}
    assert set(shown["configs"][2]) == {"name", "type", "enabled", "permission_policy"}
    assert stored(*shown["configs"]) == toolset
    assert bash == ToolOptions(name="bash", enabled=True, permission="allow")


@pytest.mark.parametrize(
    ("config", "param", "words"),
    [
        ({"name": "web_fetch", "allowed_domains": []}, "configs.0.allowed_domains", "at least 1"),
        ({"name": "web_fetch", "allowed_domains": ["x"] * 65}, "configs.0.allowed_domains", "at most 64"),
        ({"name": "web_fetch", "allowed_domains": ["http://x"]}, "configs.0.allowed_domains.0", "no domain"),
        ({"name": "web_fetch", "blocked_domains": ["x:80"]}, "configs.0.blocked_domains.0", "no domain"),
        ({"name": "web_fetch", "blocked_domains": ["b\u00fccher.example"]}, "configs.0.blocked_domains.0", "no domain"),
        ({"name": "web_fetch", "allowed_domains": ["x/y"]}, "configs.0.allowed_domains", "without a path"),
        (
            {"name": "web_search", "allowed_domains": ["x"], "blocked_domains": ["y"]},
            "configs.0.blocked_domains",
            "not beside allowed_domains",
        ),
        ({"name": "web_fetch", "max_content_tokens": 0}, "configs.0.max_content_tokens", "greater"),
        ({"name": "web_search", "max_content_tokens": 5}, "configs.0.max_content_tokens", "no setting of web_search"),
        ({"name": "bash", "allowed_domains": ["x"]}, "configs.0.allowed_domains", "no setting of bash"),
        ({"name": "web_search", "user_location": {"country": "Swiss"}}, "configs.0.user_location.country", "pattern"),
        ({"name": "web_fetch", "url_sources": {"user_input": "none"}}, "configs.0.url_sources", "not supported yet"),
    ],
)
def test_setting_that_cannot_hold_is_refused_by_name(config: dict[str, JsonValue], param: str, words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words) as error:
        stored(config)

    assert error.value.param == param
