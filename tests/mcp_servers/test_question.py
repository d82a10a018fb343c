"""Servers that ask the user in the middle of a call."""

import json
from datetime import timedelta

import pytest
from tests.mcp_servers.conftest import Desk, StartHelper, docs
from tests.mcp_servers.test_mcp_session import DONE, calls

from sojourn.types import (
    AgentCustomToolUse,
    AgentMcpToolResult,
    AgentToolResult,
    Limits,
    RollOver,
    ToolCallSettledError,
    UpdateSessionInput,
)

ACCEPTED = json.dumps({"action": "accept", "content": {"size": 3}})

PROTOCOLS = pytest.mark.parametrize(
    ("arguments", "path", "tool"),
    [
        (("--legacy",), "/mcp", "ask"),
        (("--legacy",), "/mcp", "resolve"),
        ((), "/mcp", "resolve"),
        (("--transport", "sse"), "/sse", "resolve"),
    ],
    ids=["asked", "resolved with sessions", "resolved in rounds", "by SSE"],
)


@PROTOCOLS
async def test_question_parks_the_session_and_its_answer_goes_to_the_server(
    desk: Desk, helper: StartHelper, arguments: tuple[str, ...], path: str, tool: str
) -> None:
    server = await helper(*arguments, path=path)
    probe = await desk.session([calls(tool), DONE], docs(server))

    await probe.session.send("go")
    (question,) = await probe.parked()
    use = probe.of(AgentCustomToolUse)[0]
    (action,) = await probe.session.pending_actions()

    assert use.id == question == action.id
    assert use.name == action.name == "elicitation"
    assert action.kind == "custom_tool_result"
    assert use.input["message"] == "Which size?"
    assert use.input["mcp_server_name"] == "docs"
    assert '"size": {' in json.dumps(use.input["requested_schema"])
    assert not probe.of(AgentMcpToolResult)

    await probe.session.answer(use, ACCEPTED)
    await probe.idle(2, "end_turn")

    assert [result.text for result in probe.of(AgentMcpToolResult)] == ["size 3"]
    with pytest.raises(ToolCallSettledError):
        await probe.session.answer(use, json.dumps({"action": "decline"}))


@pytest.mark.parametrize(("answer", "result"), [("decline", "decline"), ("cancel", "cancel")])
async def test_question_may_be_declined(desk: Desk, helper: StartHelper, answer: str, result: str) -> None:
    server = await helper("--legacy")
    probe = await desk.session([calls("ask"), DONE], docs(server))

    await probe.session.send("go")
    await probe.parked()
    await probe.session.answer(probe.of(AgentCustomToolUse)[0], json.dumps({"action": answer}))
    await probe.idle(2, "end_turn")

    assert probe.of(AgentMcpToolResult)[0].text == result


async def test_wrong_answer_is_asked_again(desk: Desk, helper: StartHelper) -> None:
    server = await helper("--legacy")
    probe = await desk.session([calls("ask"), DONE], docs(server))

    await probe.session.send("go")
    for number, wrong in enumerate(["three", json.dumps({"action": "accept", "content": {"size": "three"}})], 1):
        await probe.parked(number)
        await probe.session.answer(probe.of(AgentCustomToolUse)[-1], wrong)
    await probe.parked(3)
    asked = probe.of(AgentCustomToolUse)
    await probe.session.answer(asked[-1], ACCEPTED)
    await probe.idle(4, "end_turn")

    assert len({use.id for use in asked}) == 3
    assert "no JSON" in str(asked[1].input["note"])
    assert "'three' is not of type 'integer'" in str(asked[2].input["note"])
    assert probe.of(AgentMcpToolResult)[0].text == "size 3"


async def test_several_questions_and_calls_at_the_same_time(desk: Desk, helper: StartHelper) -> None:
    server = await helper("--legacy")
    probe = await desk.session([calls("ask_twice", "ask", "note", text="x"), DONE], docs(server))

    await probe.session.send("go")
    uses = [await probe.saw(AgentCustomToolUse, number) for number in (1, 2, 3)]
    answers = {"Which size?": {"size": 3}, "Which colour?": {"colour": "red"}}
    for use in uses:
        await probe.session.answer(use, json.dumps(answers[str(use.input["message"])]))
    await probe.saw(AgentMcpToolResult, 3)
    await probe.saw(type(probe.log[-1]))

    assert sorted(result.text for result in probe.of(AgentMcpToolResult)) == ["noted", "red in 3", "size 3"]


async def test_interrupt_withdraws_the_question(desk: Desk, helper: StartHelper) -> None:
    server = await helper("--legacy")
    probe = await desk.session([calls("ask"), DONE], docs(server))

    await probe.session.send("go")
    await probe.parked()
    await probe.session.interrupt()
    await probe.idle(2, "end_turn")
    await server.did("question cancelled")

    assert probe.of(AgentMcpToolResult)[0].outcome == "interrupted"
    assert probe.of(AgentToolResult)[0].tool_use_id == probe.of(AgentCustomToolUse)[0].id


async def test_question_that_nobody_answers_is_withdrawn(desk: Desk, helper: StartHelper) -> None:
    server = await helper("--legacy")
    limits = Limits(custom_tool_timeout=timedelta(milliseconds=100))
    probe = await desk.session([calls("ask"), DONE], docs(server), limits=limits)

    await probe.session.send("go")
    await probe.idle(2, "end_turn")

    assert probe.of(AgentToolResult)[0].outcome == "timed_out"
    assert probe.of(AgentMcpToolResult)[0].text == "cancel"


async def test_answer_after_the_worker_has_gone_finds_no_server(desk: Desk, helper: StartHelper) -> None:
    server = await helper("--legacy")
    limits = Limits(workspace_timeout=timedelta(seconds=1))
    probe = await desk.session([calls("ask"), DONE], docs(server), limits=limits)

    await probe.session.send("go")
    await probe.parked()
    await desk.stage.stop(desk.stage.workers[0])
    await desk.work([calls("ask"), DONE])
    await probe.session.answer(probe.of(AgentCustomToolUse)[0], ACCEPTED)
    await probe.idle(2, "end_turn")

    result = probe.of(AgentMcpToolResult)[0]
    assert (result.outcome, result.is_error) == ("error", True)
    assert "the worker that was connected to it is gone" in result.text


async def test_question_outlives_the_run_that_it_came_in(desk: Desk, helper: StartHelper) -> None:
    server = await helper("--legacy")
    probe = await desk.session([calls("ask"), DONE], docs(server), session={"roll_over": RollOver(max_events=20)})

    await probe.session.send("go")
    await probe.parked()
    for title in "abcdefgh":
        await probe.session.update(UpdateSessionInput(title=title))
    await probe.caught_up()
    runs = await probe.runs()
    (action,) = await probe.session.pending_actions()
    await probe.session.answer(action, ACCEPTED)
    await probe.idle(2, "end_turn")

    assert runs > 1
    assert probe.of(AgentMcpToolResult)[0].text == "size 3"
