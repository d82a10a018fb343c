import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from sojourn.client import AgentRuntime
from sojourn.types import EventId, Owner

Park = Callable[[str], Awaitable[tuple[str, EventId]]]
Settle = Callable[[str], Awaitable[Any]]


async def test_session_lives_from_start_to_deletion(sojourn: Any, agents: dict[str, str], settle: Settle) -> None:
    started = await sojourn(
        "sessions", "start", agents["echo"], "--message", "hello", "--title", "Greeting", "--metadata", "a=b=c"
    )
    session = started.out.strip()

    assert started.code == 0, started.err
    assert session.startswith("sesn_")

    said = await sojourn("sessions", "send", session, "how are you", "--wait")

    assert said.out == "You said: how are you\n"

    shown, text = await asyncio.gather(
        sojourn("sessions", "show", session, "--json"), sojourn("sessions", "show", session)
    )

    assert shown.document["title"] == "Greeting"
    assert shown.document["metadata"] == {"a": "b=c"}
    assert "Greeting" in text.out

    paused = await sojourn("sessions", "pause", session, "--json")

    assert paused.document == {"id": session, "action": "paused"}
    assert (await sojourn("sessions", "status", session)).out == "paused\n"
    assert (await sojourn("sessions", "pause", session)).code == 4
    assert (await sojourn("sessions", "resume", session)).code == 0
    assert (await sojourn("sessions", "interrupt", session)).code == 0
    assert (await sojourn("sessions", "archive", session)).code == 0
    assert (await sojourn("sessions", "status", session, "--json")).document == {"id": session, "status": "archived"}

    closed = await sojourn("sessions", "send", session, "x", "--json")

    assert closed.code == 4
    assert closed.error["type"] == "conflict_error"

    assert (await sojourn("sessions", "delete", session)).code == 2
    assert (await sojourn("sessions", "delete", session, "--yes")).code == 0
    assert (await sojourn("sessions", "delete", session, "--yes")).code == 3


async def test_session_id_is_taken_once(sojourn: Any, agents: dict[str, str]) -> None:
    first = await sojourn("sessions", "start", agents["echo"], "--session-id", "mine", "--json")
    second = await sojourn("sessions", "start", agents["echo"], "--session-id", "mine", "--json")

    assert first.document["id"] == "mine"
    assert second.code == 4


async def test_wrong_metadata_is_refused(sojourn: Any, agents: dict[str, str]) -> None:
    ended = await sojourn("sessions", "start", agents["echo"], "--metadata", "novalue", "--json")

    assert ended.code == 2
    assert "'novalue'" in ended.error["message"]


async def test_pending_call_is_confirmed(sojourn: Any, park: Park, settle: Settle) -> None:
    session, call = await park("weather")

    pending, text = await asyncio.gather(
        sojourn("sessions", "pending", session, "--json"), sojourn("sessions", "pending", session)
    )

    assert pending.document["data"] == [
        {"id": call, "name": "get_weather", "kind": "confirmation", "input": {"city": "Paris"}}
    ]
    assert 'get_weather(city="Paris")' in text.out

    assert (await sojourn("sessions", "confirm", session, call)).code == 0
    await settle(session)

    late, unknown, log = await asyncio.gather(
        sojourn("sessions", "deny", session, call),
        sojourn("sessions", "confirm", session, "sevt_none"),
        sojourn("sessions", "events", session),
    )

    assert (late.code, unknown.code) == (4, 3)
    assert "sunny in Paris" in log.out


async def test_pending_call_is_denied(sojourn: Any, park: Park, settle: Settle) -> None:
    session, call = await park("weather")

    denied = await sojourn("sessions", "deny", session, call, "--reason", "not today", "--json")
    await settle(session)

    assert denied.document == {"id": session, "action": "denied", "tool_use_id": call}
    assert "not today" in (await sojourn("sessions", "events", session)).out


async def test_custom_tool_is_answered(sojourn: Any, park: Park, settle: Settle) -> None:
    session, call = await park("human")

    answered = await sojourn("sessions", "answer", session, call, "-", "--error", stdin="nobody home")
    await settle(session)
    log = (await sojourn("sessions", "events", session, "--json")).lines

    assert answered.code == 0, answered.err
    (result,) = (event for event in log if event["type"] == "user.custom_tool_result")
    assert result["content"] == [{"type": "text", "text": "nobody home"}]
    assert result["is_error"] is True


async def test_waiting_for_a_turn_that_parks_is_a_conflict(sojourn: Any, agents: dict[str, str]) -> None:
    session = (await sojourn("sessions", "start", agents["weather"])).out.strip()

    ended = await sojourn("sessions", "send", session, "go", "--wait", "--json")

    assert ended.code == 4
    assert "sevt_" in ended.error["message"]


async def test_waiting_for_a_failed_turn_tells_the_provider_error(sojourn: Any, agents: dict[str, str]) -> None:
    session = (await sojourn("sessions", "start", agents["broken"])).out.strip()

    ended = await sojourn("sessions", "send", session, "go", "--wait", "--json")

    assert ended.code == 6
    assert ended.error["type"] == "provider_error"


async def test_waiting_too_long_ends_with_its_own_code(sojourn: Any, agents: dict[str, str]) -> None:
    session = (await sojourn("sessions", "start", agents["slow"])).out.strip()

    ended = await sojourn("sessions", "send", session, "go", "--wait", "--timeout", "0.1")

    assert ended.code == 6
    assert (await sojourn("sessions", "archive", session)).code == 0


async def test_list_is_filtered_and_paged(sojourn: Any, runtime: AgentRuntime, agents: dict[str, str]) -> None:
    lister = Owner("cli", "lister")
    for _ in range(2):
        await runtime.start_session(agents["echo"], owner=lister)
    async with asyncio.timeout(45):
        while len((await runtime.list_sessions(owner=lister)).data) < 2:
            pass

    async def listed(*options: str) -> Any:
        return await sojourn("sessions", "list", *options, SOJOURN_USER="lister")

    first, parked, every, cursor, status, text = await asyncio.gather(
        listed("--json", "--limit", "1", "--agent", agents["echo"], "--status", "queued", "--status", "idle"),
        listed("--json", "--stop-reason", "requires_action"),
        listed("--json", "--all-users"),
        listed("--page", "zzz"),
        listed("--status", "asleep"),
        listed(),
    )
    second = await listed("--json", "--limit", "1", "--page", first.document["next_page"])

    assert [len(page.document["data"]) for page in (first, second)] == [1, 1]
    assert first.document["data"] != second.document["data"]
    assert parked.document["data"] == []
    assert len(every.document["data"]) >= 2
    assert (cursor.code, status.code) == (2, 2)
    assert len(text.out.splitlines()) == 3
    assert text.out.startswith("id\tstatus\tstop reason\t")


async def test_session_of_another_user_does_not_exist(sojourn: Any, park: Park) -> None:
    session, _ = await park("weather")

    assert (await sojourn("sessions", "show", session, "--user", "bob")).code == 3


async def test_a_session_is_exported_by_hand(sojourn: Any, agents: dict[str, str]) -> None:
    started = await sojourn("sessions", "start", agents["echo"], "--message", "hi", "--json")

    ended = await sojourn("sessions", "export", started.document["id"], "--json")

    # It goes on in its first run, so there is no closed one yet.
    assert ended.code == 0, ended.err
    assert ended.document["runs"] == 0
