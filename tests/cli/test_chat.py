from collections.abc import Awaitable, Callable
from typing import Any

from sojourn.client import AgentRuntime
from sojourn.types import EventId, SessionStatus

Park = Callable[[str], Awaitable[tuple[str, EventId]]]


async def test_piped_lines_are_messages(sojourn: Any, runtime: AgentRuntime) -> None:
    ended = await sojourn("chat", stdin="hello\n\nand again\n")

    assert ended.code == 0, ended.err
    assert ended.out.splitlines() == ["you: hello", "You said: hello", "you: and again", "You said: and again"]
    assert "scripted:echo" in ended.err


async def test_approval_is_the_next_line_of_a_pipe(sojourn: Any, agents: dict[str, str]) -> None:
    ended = await sojourn("chat", "--agent", agents["weather"], stdin="weather?\ny\nonce more\nI know it already\n")

    assert ended.code == 0, ended.err
    assert ended.out.splitlines() == [
        "you: weather?",
        "Let me look.",
        '  → get_weather(city="Paris")',
        "  allowed",
        "  ← sunny in Paris",
        "It is nice.",
        "you: once more",
        "Let me look.",
        '  → get_weather(city="Paris")',
        "  denied: I know it already",
        "  ← denied: The call was not permitted. The tool did not run.",
        "It is nice.",
    ]


async def test_custom_tool_is_asked_for(sojourn: Any, agents: dict[str, str]) -> None:
    ended = await sojourn("chat", "--agent", agents["human"], stdin="hi\n42\nhi\nerror: nobody home\n")

    assert ended.code == 0, ended.err
    assert "  ← 42" in ended.out
    assert "  ← error: nobody home" in ended.out


async def test_always_is_for_the_very_call(sojourn: Any, agents: dict[str, str]) -> None:
    ended = await sojourn("chat", "--agent", agents["weather"], stdin="weather?\nalways\nonce more\n")

    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[-3:] == ['  → get_weather(city="Paris")', "  ← sunny in Paris", "It is nice."]


async def test_questions_are_answered_by_numbers_or_in_own_words(sojourn: Any, agents: dict[str, str]) -> None:
    ended = await sojourn("chat", "--agent", agents["asker"], stdin="go\n7\n2\n1, b\ngo\nno idea\na,2\n")

    assert ended.code == 0, ended.err
    assert "    2  blue" in ended.out
    assert "choose a number from 1 to 2" in ended.err
    assert "Which?\nblue" in ended.out.replace(" ", " ") or "Which? blue" in ended.out
    assert "no idea (in the user's own words)" in ended.out


async def test_pipe_that_ends_before_the_approval_is_a_conflict(
    sojourn: Any, agents: dict[str, str], runtime: AgentRuntime
) -> None:
    ended = await sojourn("chat", "--agent", agents["weather"], "--json", stdin="weather?\n")

    assert ended.code == 4
    assert ended.error["type"] == "conflict_error"
    assert ended.lines[-1]["stop_reason"]["type"] == "requires_action"


async def test_session_is_resumed_with_its_history(sojourn: Any, park: Park) -> None:
    session, _ = await park("weather")

    ended = await sojourn("chat", session, stdin="yes\n")

    assert ended.code == 0, ended.err
    assert ended.out.splitlines() == [
        "you: go",
        "Let me look.",
        '  → get_weather(city="Paris")',
        "  allowed",
        "  ← sunny in Paris",
        "It is nice.",
    ]


async def test_model_failure_of_a_piped_chat_is_its_exit_code(sojourn: Any, agents: dict[str, str]) -> None:
    ended = await sojourn("chat", "--agent", agents["broken"], stdin="hi\n")

    assert ended.code == 6
    assert "no such key" in ended.err


async def test_json_is_one_event_on_a_line(sojourn: Any) -> None:
    ended = await sojourn("chat", "--model", "scripted:echo", "--system", "Be kind.", "--json", stdin="hi\n")

    assert ended.code == 0
    assert [event["seq"] for event in ended.lines] == list(range(1, 8))
    assert ended.err == ""


async def test_chat_with_a_session_and_an_agent_is_refused(sojourn: Any) -> None:
    ended = await sojourn("chat", "sesn_1", "--agent", "agent_1")

    assert ended.code == 2


async def test_chat_with_unknown_session_is_not_found(sojourn: Any) -> None:
    assert (await sojourn("chat", "sesn_1")).code == 3


async def test_ctrl_c_interrupts_the_turn_and_not_the_program(
    terminal: Any, agents: dict[str, str], runtime: AgentRuntime
) -> None:
    async with terminal("chat", "--agent", agents["slow"]) as shell:
        await shell.prompted()
        shell.type("count\r")
        await shell.see("one two three")
        shell.type("\x03")
        await shell.see("(interrupted)")
        await shell.prompted()
        shell.type("still there?\r")
        await shell.see("Here again.")
        await shell.prompted()
        shell.type("\x03")
        await shell.see("Ctrl-D leaves")
        await shell.prompted()
        shell.type("\x03")
        await shell.see("come back with: sojourn chat ")

        assert await shell.end() == 0

    (info, *_) = (await runtime.list_sessions(agent=agents["slow"])).data
    assert info.status is SessionStatus.IDLE


async def test_terminal_asks_for_approval_and_takes_orders(terminal: Any, agents: dict[str, str]) -> None:
    async with terminal("chat", "--agent", agents["weather"]) as shell:
        await shell.prompted()
        shell.type("weather?\r")
        await shell.see("[y/n/always/reason to deny]")
        shell.type("y\r")
        await shell.see("sunny in Paris")
        await shell.see("It is nice.")
        await shell.prompted()
        shell.type("/pause\r")
        await shell.see("(paused;")
        await shell.prompted()
        shell.type("/resume\r")
        await shell.see("(resumed)")
        await shell.prompted()
        shell.type("/nonsense\r")
        await shell.see("/archive")
        await shell.prompted()
        shell.type("\x04")

        assert await shell.end() == 0


async def test_archiving_ends_the_chat(terminal: Any, agents: dict[str, str]) -> None:
    async with terminal("chat", "--agent", agents["echo"]) as shell:
        await shell.prompted()
        shell.type("/archive\r")
        await shell.see("archived")

        assert await shell.end() == 0
