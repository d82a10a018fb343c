"""Sessions whose agents use MCP servers."""

import asyncio
import re
import shlex
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import PlayedModel
from tests.mcp_servers.conftest import PROGRAM, Desk, StartHelper, docs

from sojourn.activities.mcp.option import McpOptions
from sojourn.activities.model import ModelRequest
from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.types import (
    AgentMcpToolResult,
    AgentMcpToolUse,
    AgentToolResult,
    Limits,
    McpServer,
    RollOver,
    SessionErrorEvent,
    ToolOptions,
    ToolProgress,
)
from sojourn.types.session import SessionInput


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


PROTOCOLS = pytest.mark.parametrize("arguments", [(), ("--legacy",)], ids=["newest protocol", "with sessions"])


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


async def test_tools_are_listed_once_for_a_session(desk: Desk, helper: StartHelper) -> None:
    server = await helper()
    played = PlayedModel(calls("add", a=1, b=2), DONE)
    probe = await desk.session(played, docs(server))

    for number in (1, 2):
        await probe.session.send("go")
        await probe.idle(number, "end_turn")

    offered = [{spec.name for spec in request.tools} for request in played.requests]
    assert len(offered) == 4
    assert all(names == offered[0] for names in offered)
    assert "mcp__docs__add" in offered[0]
    spec = next(spec for spec in played.requests[0].tools if spec.name == "mcp__docs__add")
    assert spec.description == "Add two numbers."
    assert set(spec.input_schema["properties"]) == {"a", "b"}  # type: ignore[arg-type]
    assert await scheduled(desk, probe, "list_mcp_tools") == 1


async def test_another_worker_knows_the_tools_without_asking_the_server(desk: Desk, helper: StartHelper) -> None:
    server = await helper()
    played = PlayedModel(DONE)
    probe = await desk.session(played, docs(server))
    await probe.session.send("go")
    await probe.idle()
    await desk.stage.stop(desk.stage.workers[0])
    await server.kill()
    await desk.work(played)

    await probe.session.send("go on")
    await probe.idle(2, "end_turn")

    assert [spec.name for spec in played.requests[1].tools] == [spec.name for spec in played.requests[0].tools]
    assert not probe.of(SessionErrorEvent)


async def test_default_is_to_ask_and_settings_of_single_tools_count(desk: Desk, helper: StartHelper) -> None:
    server = await helper()
    configs = (ToolOptions(name="add", permission="allow"), ToolOptions(name="fail", enabled=False))
    played = PlayedModel(calls("add", "note", "die", a=1, b=2, text="x"), DONE)
    probe = await desk.session(
        played, docs(server), permission=None, configs=(*configs, ToolOptions(name="die", permission="deny"))
    )

    await probe.session.send("go")
    (asked,) = await probe.parked()
    await probe.session.confirm(asked, allow=True)
    await probe.idle(2, "end_turn")

    permissions = {use.name: use.evaluated_permission for use in probe.of(AgentMcpToolUse)}
    assert permissions == {"add": "allow", "note": "ask", "die": "deny"}
    assert {name: result.outcome for name, result in probe.results().items()} == {
        "add": "ok",
        "note": "ok",
        "die": "denied",
    }
    assert "mcp__docs__fail" not in {spec.name for spec in played.requests[0].tools}


async def test_denied_and_interrupted_calls_have_results_of_their_kind(desk: Desk, helper: StartHelper) -> None:
    server = await helper()
    played = PlayedModel(calls("note", text="x"), DONE)
    probe = await desk.session(played, docs(server), permission="ask")

    await probe.session.send("go")
    (asked,) = await probe.parked()
    await probe.session.confirm(asked, allow=False, message="not today")
    await probe.idle(2, "end_turn")
    await probe.session.send("again")
    await probe.parked(2)
    await probe.session.interrupt()
    await probe.idle(4, "end_turn")

    assert [result.outcome for result in probe.of(AgentMcpToolResult)] == ["denied", "interrupted"]
    assert "not today" in played.context(1)[-1][1]
    assert not probe.of(AgentToolResult)


async def test_error_of_a_tool_is_its_result(desk: Desk, helper: StartHelper) -> None:
    server = await helper()
    probe = await desk.session([calls("fail", "add", a="no number"), DONE], docs(server))

    await probe.session.send("go")
    await probe.idle(1, "end_turn")

    results = probe.results()
    assert results["fail"].is_error
    assert "that went wrong" in results["fail"].text
    assert results["add"].is_error


async def test_content_of_all_kinds_becomes_blocks_that_models_take(desk: Desk, helper: StartHelper) -> None:
    server = await helper()
    probe = await desk.session([calls("show"), DONE], docs(server))

    await probe.session.send("go")
    await probe.idle(1, "end_turn")

    (result,) = probe.of(AgentMcpToolResult)
    assert [block.type for block in result.content] == [
        "text",
        "image",
        "text",
        "text",
        "text",
        "text",
        "text",
        "image",
        "text",
    ]
    assert "here" in result.text
    assert "Left out: an image" in result.text
    assert "Left out: a sound" in result.text
    assert "https://page.test/" in result.text
    assert "[Resource note://1]\ninside" in result.text
    assert '{"answer":42}' in result.text


@PROTOCOLS
async def test_progress_is_shown_and_an_interrupt_reaches_the_server(
    desk: Desk, helper: StartHelper, arguments: tuple[str, ...]
) -> None:
    server = await helper(*arguments)
    probe = await desk.session([calls("slow"), DONE], docs(server))

    await probe.session.send("go")
    async with asyncio.timeout(60), desk.stage.runtime.follow(probe.session, from_seq=0, previews=True) as events:
        async for event in events:
            if isinstance(event, ToolProgress) and "counting (" in event.text:
                break
    await probe.session.interrupt()
    await probe.idle(1, "end_turn")
    await server.did("slow was cancelled")

    assert probe.of(AgentMcpToolResult)[0].outcome == "interrupted"


async def test_call_that_takes_too_long_is_given_up(desk: Desk, helper: StartHelper) -> None:
    server = await helper()
    limits = Limits(tool_timeout=timedelta(seconds=1))
    probe = await desk.session([calls("slow"), DONE], docs(server), limits=limits)

    await probe.session.send("go")
    await probe.idle(1, "end_turn")
    await server.did("slow was cancelled")

    assert probe.of(AgentMcpToolResult)[0].outcome == "timed_out"


async def test_server_that_is_lost_in_a_call_leaves_an_unknown_outcome_and_comes_back(
    desk: Desk, helper: StartHelper
) -> None:
    server = await helper("--legacy")
    probe = await desk.session([calls("die"), DONE, calls("note", text="back"), DONE], docs(server))

    await probe.session.send("go")
    await probe.idle(1, "end_turn")
    await server.ended()
    (result,) = probe.of(AgentMcpToolResult)
    (error,) = probe.of(SessionErrorEvent)

    assert result.outcome == "unknown"
    assert (error.error.type, error.error.mcp_server_name) == ("mcp_connection_failed_error", "docs")
    assert error.error.retry_status.type == "retrying"

    await server.start()
    await probe.session.send("go on")
    await probe.idle(2, "end_turn")

    assert probe.of(AgentMcpToolResult)[1].text == "noted"
    assert server.lines() == ["dying", "note back"]


async def test_repeatable_call_is_made_again_after_its_server_was_lost(desk: Desk, helper: StartHelper) -> None:
    server = await helper("--legacy")
    probe = await desk.session([calls("add", a=1, b=1), calls("die_once"), DONE], docs(server))

    await probe.session.send("go")
    await server.did("dying once")
    await server.ended()
    await server.start()
    await probe.idle(1, "end_turn")

    assert probe.results()["add"].text == "2"
    # A machine that is busy may take longer to start the server than the worker tries.
    assert probe.results()["die_once"].text == "alive" or probe.results()["die_once"].outcome == "error"


@MODES
async def test_server_that_was_restarted_between_calls_is_not_noticed(
    desk: Desk, helper: StartHelper, arguments: tuple[str, ...], path: str
) -> None:
    server = await helper(*arguments, path=path)
    probe = await desk.session([calls("note", text="1"), DONE, calls("note", text="2"), DONE], docs(server))

    await probe.session.send("go")
    await probe.idle(1, "end_turn")
    await server.kill()
    await server.start()
    await probe.session.send("go on")
    await probe.idle(2, "end_turn")

    assert [result.outcome for result in probe.of(AgentMcpToolResult)] == ["ok", "ok"]
    assert server.lines() == ["note 1", "note 2"]
    assert not probe.of(SessionErrorEvent)


@PROTOCOLS
async def test_tools_that_change_are_offered_with_the_next_step(
    desk: Desk, helper: StartHelper, arguments: tuple[str, ...]
) -> None:
    server = await helper(*arguments)
    offered: list[bool] = []

    def script(request: ModelRequest) -> ScriptedTurn:
        """Grow, look until there is something new, and use it."""
        offered.append("mcp__docs__grown" in {spec.name for spec in request.tools})
        if request.step == 0:
            return calls("grow")
        return calls("add", a=1, b=2) if not offered[-1] else calls("grown") if not offered[-2] else DONE

    probe = await desk.session(script, docs(server))

    await probe.session.send("go")
    await probe.idle(1, "end_turn")

    assert offered == sorted(offered)
    assert probe.results()["grown"].text == "grown"
    assert await scheduled(desk, probe, "list_mcp_tools") == 2


async def test_server_that_cannot_be_reached_is_told_of_and_tried_with_the_next_turn(
    desk: Desk, helper: StartHelper
) -> None:
    server, other = await helper(), await helper()
    await server.kill()
    played = PlayedModel(DONE)
    probe = await desk.session(played, docs(server), docs(other, "other"))

    for number in (1, 2):
        await probe.session.send("go")
        await probe.idle(number, "end_turn")
    await server.start()
    await probe.session.send("go")
    await probe.idle(3, "end_turn")

    errors = [event.error for event in probe.of(SessionErrorEvent)]
    names = [{spec.name for spec in request.tools} for request in played.requests]
    assert [(each.type, each.mcp_server_name) for each in errors] == [("mcp_connection_failed_error", "docs")] * 2
    assert ["mcp__docs__add" in each for each in names] == [False, False, True]
    assert all("mcp__other__add" in each for each in names)


async def test_server_that_hangs_does_not_hold_the_session(desk: Desk, helper: StartHelper) -> None:
    server = await helper("--hang")
    desk.options = replace(desk.options, connect_timeout=timedelta(seconds=1))
    await desk.stage.work([DONE], options=desk.worker_options())
    probe = await desk.stage.open(await desk.agent(docs(server)))

    await probe.session.send("go")
    await probe.idle(1, "end_turn")

    assert "did not answer within 1 s" in probe.of(SessionErrorEvent)[0].error.message


async def test_private_address_is_refused_unless_the_operator_allows_it(desk: Desk, helper: StartHelper) -> None:
    server = await helper()
    desk.options = McpOptions()
    probe = await desk.session([DONE], docs(server))

    await probe.session.send("go")
    await probe.idle(1, "end_turn")

    assert "SOJOURN_PRIVATE_HOSTS" in probe.of(SessionErrorEvent)[0].error.message
    assert server.lines() == []


class Tokens:
    """Credentials from a list: the next one when the last is refused."""

    def __init__(self, *tokens: str) -> None:
        self.tokens = list(tokens)

    async def bearer(self, start: SessionInput, url: str) -> str | None:
        return self.tokens[0] if self.tokens else None

    async def refreshed(self, start: SessionInput, url: str, *, rejected: str | None = None) -> str | None:
        if len(self.tokens) < 2:
            return None
        self.tokens.pop(0)
        return self.tokens[0]


async def test_token_of_the_session_is_shown_and_renewed_when_it_is_refused(
    desk: Desk, helper: StartHelper, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("two")
    server = await helper("--token", str(tmp_path / "token"))
    desk.options = replace(desk.options, credentials=Tokens("one", "two", "three"))
    probe = await desk.session([calls("note", text="x"), calls("note", text="y"), DONE], docs(server))

    await probe.session.send("go")
    await probe.saw(AgentMcpToolResult)
    (tmp_path / "token").write_text("three")
    await probe.idle(1, "end_turn")

    assert [result.text for result in probe.of(AgentMcpToolResult)] == ["noted", "noted"]
    assert server.lines()[0] == "refused Bearer one"


@pytest.mark.parametrize("tokens", [(), ("wrong",), ("wrong", "wrong too")], ids=["none", "wrong", "both wrong"])
async def test_server_that_refuses_the_token_is_told_of(
    desk: Desk, helper: StartHelper, tmp_path: Path, tokens: tuple[str, ...]
) -> None:
    (tmp_path / "token").write_text("right")
    server = await helper("--token", str(tmp_path / "token"))
    desk.options = replace(desk.options, credentials=Tokens(*tokens))
    probe = await desk.session([DONE], docs(server))

    await probe.session.send("go")
    await probe.idle(1, "end_turn")

    (error,) = probe.of(SessionErrorEvent)
    assert (error.error.type, error.error.mcp_server_name) == ("mcp_authentication_failed_error", "docs")


async def test_result_that_is_too_large_is_an_error_result(desk: Desk, helper: StartHelper) -> None:
    server = await helper("--json")
    probe = await desk.session([calls("huge", size=40_000_000), calls("huge", size=100_000), DONE], docs(server))

    await probe.session.send("go")
    await probe.idle(1, "end_turn")

    first, second = probe.of(AgentMcpToolResult)
    assert first.is_error
    assert "over 33,554,432 bytes" in first.text
    assert second.text == "x" * 100_000


async def test_names_that_providers_refuse_are_made_to_fit(desk: Desk, helper: StartHelper) -> None:
    odd = "a.b/c d,ünïcode," + "long" * 25
    server = await helper("--extra", odd, "--many", "300")
    names: list[str] = []

    def script(request: ModelRequest) -> ScriptedTurn:
        names[:] = [spec.name for spec in request.tools]
        odd_one = next(name for name in names if name.startswith("mcp__my_docs__a_b_c_d_"))
        return ScriptedTurn(calls=[ScriptedCall(odd_one)]) if request.step == 0 else DONE

    probe = await desk.session(script, docs(server, "my docs"))
    await probe.session.send("go")
    await probe.idle(1, "end_turn")

    assert len(names) == len(set(names)) > 300
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in names)
    assert probe.of(AgentMcpToolUse)[0].name == "a.b/c d"
    assert probe.of(AgentMcpToolResult)[0].text == "extra"


async def test_session_goes_on_in_its_next_run_with_the_tools_it_knows(desk: Desk, helper: StartHelper) -> None:
    server = await helper()
    played = PlayedModel(calls("add", a=1, b=2), DONE)
    probe = await desk.session(played, docs(server), session={"roll_over": RollOver(max_events=20)})

    for number in range(1, 5):
        await probe.session.send("go")
        await probe.idle(number, "end_turn")

    assert await probe.runs() > 1
    assert all("mcp__docs__add" in {spec.name for spec in request.tools} for request in played.requests)
    assert [result.text for result in probe.of(AgentMcpToolResult)] == ["3"] * 4


async def test_local_program_is_one_of_the_operators_and_gets_a_clean_environment(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = tmp_path / "ledger"
    ledger.touch()
    monkeypatch.setenv("SECRET_OF_THE_WORKER", "1")
    command = shlex.join([sys.executable, str(PROGRAM), "--transport", "stdio", "--ledger", str(ledger)])
    desk.options = replace(desk.options, programs={"docs": command})
    script = [calls("environment"), calls("note", text="x"), calls("die"), calls("note", text="y"), DONE]
    probe = await desk.session(script, McpServer(type="stdio", name="docs"))

    await probe.session.send("go")
    await probe.idle(1, "end_turn")
    pids = [int(line.split()[1]) for line in ledger.read_text().splitlines() if line.startswith("started")]
    await desk.stage.stop(desk.stage.workers[0])

    assert "PATH" in probe.of(AgentMcpToolResult)[0].text
    assert "SECRET" not in probe.of(AgentMcpToolResult)[0].text
    assert [result.outcome for result in probe.of(AgentMcpToolResult)] == ["ok", "ok", "unknown", "ok"]
    assert len(pids) == 2
    assert not any(map(lives, pids))


def lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_local_program_that_the_operator_has_not_named_is_not_started(desk: Desk) -> None:
    probe = await desk.session([DONE], McpServer(type="stdio", name="docs"))

    await probe.session.send("go")
    await probe.idle(1, "end_turn")

    assert "--mcp docs=" in probe.of(SessionErrorEvent)[0].error.message


async def scheduled(desk: Desk, probe: Any, name: str) -> int:
    """How often an activity has been scheduled in the session's current run."""
    history = await desk.stage.client.get_workflow_handle(probe.workflow_id).fetch_history()
    names = [event.activity_task_scheduled_event_attributes.activity_type.name for event in history.events]
    return names.count(name)
