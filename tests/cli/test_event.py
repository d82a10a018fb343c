import json
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

from sojourn.client import AgentRuntime
from sojourn.types import EventId

Park = Callable[[str], Awaitable[tuple[str, EventId]]]


async def test_events_are_lines_or_json(sojourn: Any, park: Park) -> None:
    session, call = await park("weather")

    text = await sojourn("sessions", "events", session)
    everything = await sojourn("sessions", "events", session, "--verbose")
    later = await sojourn("sessions", "events", session, "--json", "--from-seq", "3")

    assert [line.split()[1] for line in text.out.splitlines()] == ["user", "agent", "ask", "idle"]
    assert call in text.out
    assert [int(line.split()[0]) for line in everything.out.splitlines()] == list(range(1, 9))
    assert [event["seq"] for event in later.lines] == list(range(4, 9))


async def test_follow_goes_on_until_the_session_ends(start: Any, runtime: AgentRuntime, agents: dict[str, str]) -> None:
    session = await runtime.start_session(agents["slow"])
    async with start("sessions", "events", session.id, "--follow", "--previews", "--json") as process:
        await session.send("go")
        types = []
        while "event_delta" not in types:
            types.append(json.loads(await process.stdout.readline())["type"])
        await session.archive()
        out, err = await process.communicate()

    assert process.returncode == 0, err
    assert types.index("event_start") < types.index("event_delta")
    assert json.loads(out.splitlines()[-1])["type"] == "session.status_terminated"


async def test_ctrl_c_ends_following_with_130(start: Any, park: Park) -> None:
    session, _ = await park("weather")
    async with start("sessions", "events", session, "--follow") as process:
        await process.stdout.readline()
        os.kill(process.pid, signal.SIGINT)
        _, err = await process.communicate()

    assert process.returncode == 130
    assert err == b""


async def test_reader_that_goes_away_is_no_error(start: Any, park: Park) -> None:
    session, _ = await park("weather")
    async with start("sessions", "events", session) as process:
        process._transport.get_pipe_transport(1).close()
        err = await process.stderr.read()
        await process.wait()

    assert process.returncode == 141
    assert err == b""


async def test_previews_without_follow_are_refused(sojourn: Any) -> None:
    assert (await sojourn("sessions", "events", "sesn_1", "--previews")).code == 2
