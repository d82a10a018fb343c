import pytest

from sojourn.types.agent import AgentDefinition, CustomTool, FunctionTool, McpServer, McpToolset
from sojourn.types.error import InvalidRequestError
from sojourn.types.wire import parse


def definition(**fields: object) -> AgentDefinition:
    found: AgentDefinition = parse(AgentDefinition, {"name": "a", "model": "scripted:echo", **fields})
    return found


def test_tool_may_be_given_by_its_name_alone() -> None:
    assert definition(tools=["search"]).tools == (FunctionTool(name="search"),)


def test_model_may_be_given_as_text() -> None:
    assert str(definition(model="gpt-5").model) == "openai:gpt-5"


def test_model_that_nobody_provides_is_refused_by_its_path() -> None:
    with pytest.raises(InvalidRequestError) as error:
        definition(model="unheard-of")

    assert error.value.param == "model"
    assert "'unheard-of'" in str(error.value)


@pytest.mark.parametrize("name", ["", "with space", "a.b", "ä", "x" * 129])
def test_tool_name_that_providers_refuse_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequestError):
        definition(tools=[name])


def test_two_tools_of_one_name_are_refused() -> None:
    custom = {"type": "custom", "name": "search", "description": "Search", "input_schema": {}}

    with pytest.raises(InvalidRequestError, match="'search' is there twice"):
        definition(tools=["search", custom])


@pytest.mark.parametrize(
    "fields",
    [
        {"mcp_servers": [{"name": "docs", "url": "https://docs.test"}]},
        {"tools": [{"type": "mcp_toolset", "mcp_server_name": "docs"}]},
    ],
    ids=["server without toolset", "toolset without server"],
)
def test_half_of_an_mcp_server_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidRequestError, match="docs"):
        definition(**fields)


def test_definition_that_does_not_speak_of_compaction_looks_as_it_did_before_there_was_any() -> None:
    assert "compaction" not in definition().model_dump()
    assert definition().compaction.enabled
    assert definition(compaction={"enabled": False}).model_dump()["compaction"]["enabled"] is False


@pytest.mark.parametrize(
    "fields", [{"threshold": 0.2}, {"threshold": 1.1}, {"keep": 0.5}, {"window_tokens": 10}], ids=str
)
def test_compaction_that_could_gain_nothing_is_refused(fields: dict[str, float]) -> None:
    with pytest.raises(InvalidRequestError, match=f"compaction.{next(iter(fields))}"):
        definition(compaction=fields)


def test_mcp_server_with_its_toolset_is_taken() -> None:
    server, toolset = McpServer(name="docs", url="https://docs.test"), McpToolset(mcp_server_name="docs")

    assert definition(mcp_servers=[server], tools=[toolset]).mcp_servers == (server,)


def test_tool_of_unknown_type_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="telepathy"):
        definition(tools=[{"type": "telepathy", "name": "x"}])


def test_custom_tool_needs_a_description() -> None:
    with pytest.raises(InvalidRequestError, match="description"):
        definition(tools=[{"type": "custom", "name": "ask", "description": "", "input_schema": {}}])


def test_definition_is_equal_to_itself_read_again() -> None:
    made = definition(tools=["search", CustomTool(name="ask", description="Ask", input_schema={"type": "object"})])

    assert AgentDefinition.model_validate_json(made.model_dump_json()) == made
