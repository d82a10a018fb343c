"""Sessions whose agents use MCP servers."""

import pytest
from tests.mcp.conftest import Desk, StartHelper, docs

from sojourn.activities.conversation import ToolResults
from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.types import AgentMcpToolResult, AgentMcpToolUse


def calls(*names: str, **input: object) -> ScriptedTurn:
    return ScriptedTurn(calls=[ScriptedCall(f"mcp__docs__{name}", input) for name in names])  # type: ignore[arg-type]


DONE = ScriptedTurn("done")

MODES = pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ((), "/mcp"),
        (("--legacy",), "/mcp"),
        (("--legacy", "--json"), "/mcp"),
        (("--legacy", "--stateless"), "/mcp"),
        (("--transport", "sse"), "/sse"),
    ],
    ids=["newest protocol", "with sessions", "answers in JSON", "stateless", "only by SSE"],
)


@MODES
async def test_tools_of_a_server_are_offered_and_run(
    desk: Desk, helper: StartHelper, arguments: tuple[str, ...], path: str
) -> None:
    server = await helper(*arguments, path=path)
    probe = await desk.session([calls("add", a=1, b=2), calls("note", text="x"), DONE], docs(server))

    await probe.session.send("go")
    await probe.idle(1, "end_turn")

    use = probe.of(AgentMcpToolUse)[0]
    assert (use.mcp_server_name, use.name, use.input, use.evaluated_permission) == (
        "docs",
        "add",
        {"a": 1, "b": 2},
        "allow",
    )
    assert [result.text for result in probe.of(AgentMcpToolResult)] == ["3", "noted"]
    assert server.lines() == ["add 1 2", "note x"]
    assert probe.story() == [
        "user.message",
        "session.status_running",
        "agent.mcp_tool_use",
        "agent.mcp_tool_result",
        "agent.mcp_tool_use",
        "agent.mcp_tool_result",
        "agent.message",
        "session.status_idle",
    ]
