"""MCP servers through the gateway, by the official SDK."""

import json
from typing import Any

from tests.client.gateway.conftest import served
from tests.mcp_servers.conftest import Desk, StartHelper
from tests.mcp_servers.test_mcp_session import DONE, calls


def message(text: str) -> dict[str, Any]:
    return {"type": "user.message", "content": [{"type": "text", "text": text}]}


async def test_official_sdk_confirms_calls_and_answers_questions(desk: Desk, helper: StartHelper) -> None:
    server, gone = await helper("--legacy"), await helper()
    await gone.kill()
    await desk.work([calls("note", text="x"), calls("ask"), DONE])
    async with served(desk.stage) as gateway:
        beta = gateway.sdk.beta
        agent = await beta.agents.create(
            name="actor",
            model="scripted:play",
            mcp_servers=[
                {"type": "url", "name": "docs", "url": server.url},
                {"type": "url", "name": "gone", "url": gone.url},
            ],
            tools=[
                {
                    "type": "mcp_toolset",
                    "mcp_server_name": "docs",
                    "configs": [{"name": "ask", "permission_policy": {"type": "always_allow"}}],
                },
                {"type": "mcp_toolset", "mcp_server_name": "gone"},
            ],
        )
        session = await beta.sessions.create(agent=agent.id, environment_id=gateway.environment)
        probe = desk.stage.watch(desk.stage.runtime.session(session.id))
        events = beta.sessions.events
        await events.send(session.id, events=[message("go")])  # type: ignore[list-item]
        (asked,) = await probe.parked()
        confirmation = {"type": "user.tool_confirmation", "tool_use_id": asked, "result": "allow"}
        await events.send(session.id, events=[confirmation])  # type: ignore[list-item]
        (question,) = await probe.parked(2)
        answer = {
            "type": "user.custom_tool_result",
            "custom_tool_use_id": question,
            "content": [{"type": "text", "text": json.dumps({"action": "accept", "content": {"size": 3}})}],
        }
        await events.send(session.id, events=[answer])  # type: ignore[list-item]
        await probe.idle(3, "end_turn")
        shown = [event async for event in events.list(session.id)]

    by_type: dict[str, list[Any]] = {}
    for event in shown:
        by_type.setdefault(event.type, []).append(event)
    use, second = by_type["agent.mcp_tool_use"]
    assert (use.id, use.mcp_server_name, use.name, use.input) == (asked, "docs", "note", {"text": "x"})
    assert (use.evaluated_permission, use.evaluation.type) == ("ask", "always_ask")
    assert second.evaluated_permission == "allow"
    assert [(each.mcp_tool_use_id, each.content[0].text) for each in by_type["agent.mcp_tool_result"]] == [
        (asked, "noted"),
        (second.id, "size 3"),
    ]
    (elicitation,) = by_type["agent.custom_tool_use"]
    assert (elicitation.id, elicitation.name) == (question, "elicitation")
    assert elicitation.input["message"] == "Which size?"
    (error,) = by_type["session.error"]
    assert (error.error.type, error.error.mcp_server_name) == ("mcp_connection_failed_error", "gone")
    assert error.error.retry_status.type == "retrying"
