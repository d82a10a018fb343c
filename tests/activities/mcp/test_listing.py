import pytest
from mcp import types

from sojourn.activities.mcp.listing import MAX_TOOLS, _fitted, tool_of
from sojourn.activities.mcp.option import McpOptions
from sojourn.activities.mcp.pool import network_refusal
from sojourn.types.agent import AgentDefinition, AgentVersion, McpServer, McpToolset
from sojourn.types.environment import CloudConfig, LimitedNetwork
from sojourn.types.error import InvalidRequestError
from sojourn.types.id import AgentId, SessionId
from sojourn.types.model import ModelRef
from sojourn.types.session import Owner, SessionInput

DOCS = McpServer(name="docs", url="https://mcp.docs.test/mcp")


def listed(number: int) -> types.Tool:
    return types.Tool(name=f"tool_{number}", description="d", input_schema={"type": "object"})


@pytest.mark.parametrize("schema", [{"type": "string"}, {"type": "object", "properties": 5}, {}, {"type": "nonsense"}])
def test_schema_that_is_none_takes_anything(schema: dict[str, object]) -> None:
    tool = types.Tool(name="t", input_schema=schema)

    assert tool_of(tool).input_schema == {"type": "object"}


def test_hints_make_a_tool_repeatable() -> None:
    def repeatable(hints: types.ToolAnnotations) -> bool:
        return tool_of(types.Tool(name="t", input_schema={"type": "object"}, annotations=hints)).is_repeatable

    assert repeatable(types.ToolAnnotations(read_only_hint=True))
    assert repeatable(types.ToolAnnotations(idempotent_hint=True))
    assert not repeatable(types.ToolAnnotations(destructive_hint=False))
    assert not tool_of(listed(1)).is_repeatable


def test_too_many_tools_are_cut_and_counted() -> None:
    listing = _fitted(DOCS, [tool_of(listed(number)) for number in range(MAX_TOOLS + 5)], 10_000_000)

    assert (len(listing.tools), listing.left_out) == (MAX_TOOLS, 5)


def test_tools_that_take_too_much_room_are_left_out() -> None:
    listing = _fitted(DOCS, [tool_of(listed(number)) for number in range(100)], 1000)

    assert 0 < len(listing.tools) < 20
    assert len(listing.tools) + listing.left_out == 100


def test_tool_that_is_listed_twice_is_there_once() -> None:
    assert len(_fitted(DOCS, [tool_of(listed(1))] * 2, 10_000).tools) == 1


@pytest.mark.parametrize(
    ("network", "refused"),
    [
        (LimitedNetwork(), True),
        (LimitedNetwork(allow_mcp_servers=True), False),
        (LimitedNetwork(allowed_hosts=("mcp.docs.test",)), False),
        (LimitedNetwork(allowed_hosts=("*.docs.test",)), False),
        (LimitedNetwork(allowed_hosts=("docs.test",)), True),
    ],
)
def test_limited_network_of_an_environment_holds_for_servers(network: LimitedNetwork, refused: bool) -> None:
    definition = AgentDefinition(
        name="a",
        model=ModelRef.of("scripted:echo"),
        mcp_servers=[DOCS],
        tools=[McpToolset(mcp_server_name="docs")],
    )
    start = SessionInput(
        session_id=SessionId("s"),
        owner=Owner(),
        agent=AgentVersion(id=AgentId("agent_a"), version=1, definition=definition),
        sandbox=CloudConfig(networking=network),
    )

    assert (network_refusal(start, DOCS) is not None) == refused


def test_local_servers_are_read_from_words() -> None:
    assert McpOptions.read(["docs=run it --now a=b"]).programs == {"docs": "run it --now a=b"}


@pytest.mark.parametrize("words", [["docs"], ["=x"], ["docs="], ["docs=a", "docs=b"]])
def test_words_that_name_no_local_server_are_refused(words: list[str]) -> None:
    with pytest.raises(InvalidRequestError, match="--mcp"):
        McpOptions.read(words)
