from collections.abc import Awaitable, Callable
from typing import Any

from sojourn.types import EventId

Park = Callable[[str], Awaitable[tuple[str, EventId]]]


async def test_parked_session_is_explained_with_the_command_that_answers(sojourn: Any, park: Park) -> None:
    session, call = await park("weather")

    text = await sojourn("sessions", "explain", session)
    lines = text.out.splitlines()

    assert text.code == 0, text.err
    assert lines[0] == f"{session} is idle"
    assert 'get_weather(city="Paris")' in lines[1]
    assert lines[2] == f"  → sojourn sessions confirm {session} {call}, or sojourn sessions deny {session} {call}"

    answered = await sojourn(*lines[2].split(", or ")[0].split()[2:])

    assert answered.code == 0, answered.err


async def test_explanation_as_json(sojourn: Any, park: Park) -> None:
    session, call = await park("human")

    found = (await sojourn("sessions", "explain", session, "--json")).document

    assert (found["id"], found["status"], found["stop_reason"]) == (session, "idle", "requires_action")
    assert [reason["type"] for reason in found["reasons"]] == ["custom_tool"]
    assert found["reasons"][0]["tool_use_id"] == call
    assert found["summary"].startswith("idle: waits until ")


async def test_session_without_a_worker_is_told_to_start_one(sojourn: Any, agents: dict[str, str]) -> None:
    nobody = ("--task-queue", "test-cli-nobody")
    session = (await sojourn("sessions", "start", agents["echo"], *nobody)).out.strip()

    text = await sojourn("sessions", "explain", session)

    assert "→ sojourn worker --task-queue test-cli-nobody" in text.out


async def test_unknown_session_is_not_explained(sojourn: Any, park: Park) -> None:
    session, _ = await park("weather")

    assert (await sojourn("sessions", "explain", "sesn_none")).code == 3
    assert (await sojourn("sessions", "explain", session, "--user", "bob")).code == 3
