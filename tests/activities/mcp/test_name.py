import re

from hypothesis import given
from hypothesis import strategies as st

from sojourn.activities.mcp.name import tool_name

_NAMES = st.text(st.sampled_from("ab_-.ü "), max_size=40)


def test_plain_names_are_joined() -> None:
    assert tool_name("docs", "search") == "mcp__docs__search"


@given(_NAMES, _NAMES)
def test_every_name_is_one_that_providers_take(server: str, tool: str) -> None:
    assert re.fullmatch(r"mcp__[A-Za-z0-9_-]{1,59}", tool_name(server, tool))


@given(st.lists(st.tuples(_NAMES, _NAMES), unique=True, min_size=2, max_size=30))
def test_no_two_tools_have_the_same_name(tools: list[tuple[str, str]]) -> None:
    assert len({tool_name(*each) for each in tools}) == len(tools)


def test_names_that_could_be_read_in_two_ways_are_told_apart() -> None:
    assert tool_name("a", "b__c") != tool_name("a__b", "c")
    assert tool_name("a_", "x") != tool_name("a", "_x")


def test_long_name_is_cut_and_stays_what_it_is() -> None:
    assert len(tool_name("docs", "x" * 200)) == 64
    assert tool_name("docs", "x" * 200) == tool_name("docs", "x" * 200) != tool_name("docs", "x" * 201)
