"""Streams of the gateway, read over real connections, by the official SDK where it can do it."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest
from anthropic.lib.sessions import accumulate_managed_agents_event

from sojourn.gateway import GatewayOptions
from sojourn.gateway.endpoint import Call
from sojourn.gateway.projection import Subject
from sojourn.gateway.stream import EventFrames
from sojourn.gateway.wire.log import StreamQuery
from sojourn.testing import ScriptedCall, ScriptedFailure, ScriptedTurn
from sojourn.types import CheckpointError, CustomTool, Limits, PermissionPolicy, RollOver, SessionId, UserMessage

if TYPE_CHECKING:
    from tests.client.gateway.conftest import ServedGateway
    from tests.conftest import Eventually, Probe, Stage

PATIENCE = timedelta(seconds=30)
LOOK = CustomTool(name="look", description="Look.", input_schema={"type": "object"})
BOTH = ["agent.message", "agent.thinking"]


@dataclass
class Frame:
    """One event as it came."""

    id: str | None
    name: str
    data: dict[str, Any]

    @property
    def type(self) -> str:
        return str(self.data["type"])


class Stream:
    """An open stream, read by hand."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.frames: list[Frame] = []
        self.comments: list[str] = []
        self._lines = response.aiter_lines()

    async def read(self) -> Frame | None:
        """The next event that is no ping; ``None`` at the end."""
        fields: dict[str, str] = {}
        async for line in self._lines:
            if line.startswith(":"):
                self.comments.append(line)
            elif line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif fields:
                frame = Frame(fields.get("id"), fields["event"], json.loads(fields["data"]))
                self.frames.append(frame)
                return frame
        return None

    async def until(self, type: str, number: int = 1) -> list[Frame]:
        """Everything up to the event of this type, the so-manyth from here."""
        found: list[Frame] = []
        async with asyncio.timeout(PATIENCE.total_seconds()):
            while number:
                frame = await self.read()
                assert frame is not None, f"ended without {type}: {self.types()}"
                found.append(frame)
                number -= frame.type == type
        return found

    async def rest(self) -> list[Frame]:
        """Everything up to the end."""
        found: list[Frame] = []
        async with asyncio.timeout(PATIENCE.total_seconds()):
            while (frame := await self.read()) is not None:
                found.append(frame)
        return found

    def types(self) -> list[str]:
        return [frame.type for frame in self.frames]


@asynccontextmanager
async def stream(
    gateway: "ServedGateway", probe: "Probe", *, headers: Any = None, deltas: Sequence[str] = (), **query: Any
) -> AsyncGenerator[Stream, None]:
    url = f"/v1/sessions/{probe.session.id}/events/stream"
    query["event_deltas[]"] = list(deltas)
    async with gateway.http.stream("GET", url, params=query, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        yield Stream(response)


async def open_session(stage: "Stage", *turns: ScriptedTurn, **options: Any) -> "Probe":
    return await stage.session(*(turns or (ScriptedTurn(text="done"),)), **options)


async def test_a_stream_shows_a_turn_in_the_order_of_the_contract(gateway: Any, stage: "Stage") -> None:
    turns = (ScriptedTurn(thinking="hm", text="adding", calls=[ScriptedCall("add")]), ScriptedTurn(text="three"))
    probe = await open_session(stage, *turns, tools=[_add])

    async with stream(gateway, probe) as live:
        await probe.session.send("go")
        frames = await live.until("session.status_idle")

    assert [frame.type for frame in frames] == [
        "user.message",
        "user.message",
        "session.status_running",
        "session.thread_status_running",
        "span.model_request_start",
        "agent.thinking",
        "agent.message",
        "agent.tool_use",
        "span.model_request_end",
        "agent.tool_result",
        "span.model_request_start",
        "agent.message",
        "span.model_request_end",
        "session.thread_status_idle",
        "session.usage",
        "session.status_idle",
    ]
    assert {frame.name for frame in frames} == {"message"}
    assert live.response.headers["content-type"].startswith("text/event-stream")
    assert live.response.headers["request-id"].startswith("req_")


def _add() -> int:
    return 3


_add.__name__ = "add"


async def test_the_first_bytes_come_before_any_event(gateway: Any, stage: "Stage") -> None:
    """Nothing has ever happened in the session and no worker is there; the client sees the stream open all the same."""
    probe = await stage.open(await stage.agent())

    async with stream(gateway, probe) as live:
        async with asyncio.timeout(PATIENCE.total_seconds()):
            first = await anext(live._lines)

    assert first.startswith(":")


async def test_what_is_sent_after_the_headers_came_is_seen(gateway: Any, stage: "Stage") -> None:
    probe = await open_session(stage)
    for number in range(5):
        async with stream(gateway, probe) as live:
            sent = await probe.session.send(f"message {number}")
            frames = await live.until("session.status_idle")

        messages = [frame.data for frame in frames if frame.type == "user.message"]
        assert [message["id"] for message in messages] == [sent.id, sent.id]
        assert messages[0]["processed_at"] is None
        assert messages[1]["processed_at"] is not None


async def test_a_stream_without_a_place_shows_nothing_of_the_past(gateway: Any, stage: "Stage") -> None:
    probe = await open_session(stage)
    await probe.session.send_and_wait("before")
    await probe.idle()

    async with stream(gateway, probe) as live:
        await probe.session.send("after")
        frames = await live.until("session.status_idle")

    assert frames[0].data["content"] == [{"type": "text", "text": "after"}]


@pytest.mark.parametrize("how", ["header", "query"])
async def test_a_stream_goes_on_behind_the_last_id_without_gap_or_double(
    gateway: Any, stage: "Stage", how: str
) -> None:
    """Cut after every event, over several runs: what came before and what comes after is the whole."""
    probe = await open_session(stage, roll_over=RollOver(max_events=20))
    for text in ("one", "two", "three"):
        await probe.session.send_and_wait(text)
    await probe.session.archive()
    await probe.ended()
    async with stream(gateway, probe, from_seq=0) as first:
        whole = await first.rest()

    assert whole[-1].type == "session.status_terminated"
    assert await probe.runs() > 1
    for number, frame in enumerate(whole, 1):
        place = {"headers": {"last-event-id": frame.id}} if how == "header" else {"from_seq": frame.id}
        async with stream(gateway, probe, **place) as again:
            assert await again.rest() == whole[number:]


async def test_the_header_beats_the_query(gateway: Any, stage: "Stage") -> None:
    """A browser connects again with the URL that it was given, and the last id in the header."""
    probe = await open_session(stage)
    await probe.session.send_and_wait("one")
    await probe.session.archive()
    async with stream(gateway, probe, from_seq=0) as live:
        whole = await live.rest()

    async with stream(gateway, probe, from_seq=0, headers={"last-event-id": whole[3].id}) as again:
        assert await again.rest() == whole[4:]


async def test_a_message_that_waited_before_the_stream_began_is_shown_when_it_is_taken_up(
    gateway: Any, stage: "Stage"
) -> None:
    probe = await stage.open(await stage.agent(model="scripted:echo"))
    sent = await probe.session.send("early")

    async with stream(gateway, probe) as live, stream(gateway, probe) as other:
        await stage.work()
        frames = await live.until("session.status_idle")
        assert await other.until("session.status_idle") == frames

    assert (frames[0].type, frames[0].data["id"]) == ("user.message", sent.id)
    assert frames[0].data["processed_at"] is not None


async def test_an_archived_session_ends_its_streams(gateway: Any, stage: "Stage") -> None:
    probe = await open_session(stage)
    async with stream(gateway, probe) as live:
        await probe.session.archive()
        frames = await live.rest()

    assert [frame.type for frame in frames] == ["session.thread_status_terminated", "session.status_terminated"]
    assert frames[-1].data["sojourn_status"] == "archived"


async def test_a_stream_of_an_archived_session_ends_at_once(gateway: Any, stage: "Stage") -> None:
    probe = await open_session(stage)
    await probe.session.archive()
    async with stream(gateway, probe) as live:
        assert await live.rest() == []


async def test_a_deleted_session_ends_its_streams(gateway: Any, stage: "Stage") -> None:
    probe = await open_session(stage)
    await probe.session.send_and_wait("one")
    async with stream(gateway, probe) as live:
        probe.forget()
        await probe.session.delete()
        frames = await live.rest()

    assert [frame.type for frame in frames] == ["session.deleted"]
    assert frames[0].data["id"].startswith("sevt_")
    assert frames[0].data["processed_at"] is not None


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({"event_deltas[]": "agent.tool_use"}, "event_deltas"),
        ({"event_deltas[]": ["agent.message"] * 101}, "event_deltas"),
        ({"from_seq": "-1"}, "from_seq"),
        ({"from_seq": "last"}, "from_seq"),
        ({"from_seq": ""}, "from_seq"),
    ],
)
async def test_a_wrong_query_is_refused(gateway: Any, stage: "Stage", query: Any, parameter: str) -> None:
    probe = await stage.open(await stage.agent())
    response = await gateway.http.get(f"/v1/sessions/{probe.session.id}/events/stream", params=query)

    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert parameter in response.json()["error"]["message"]


async def test_a_wrong_last_event_id_is_refused(gateway: Any, stage: "Stage") -> None:
    probe = await stage.open(await stage.agent())
    path = f"/v1/sessions/{probe.session.id}/events/stream"
    response = await gateway.http.get(path, headers={"last-event-id": "sevt_1"})

    assert response.status_code == 400


@pytest.mark.parametrize("key", ["ada", "bob", "eve"])
@pytest.mark.parametrize("path", ["events", "events/stream", "threads", "threads/sthr_1"])
async def test_unknown_and_foreign_sessions_are_not_found(gateway: Any, stage: "Stage", key: str, path: str) -> None:
    session_id = "sesn_nothing" if key == "ada" else (await stage.open(await stage.agent())).session.id
    async with gateway.client(key) as http:
        response = await http.get(f"/v1/sessions/{session_id}/{path}")

    assert response.status_code == 404
    assert response.json()["error"]["type"] == "not_found_error"
    assert response.headers["content-type"] == "application/json"


# --- previews --------------------------------------------------------------------------------------------------------


def _slow(**turn: Any) -> ScriptedTurn:
    return ScriptedTurn(text="a few words that take their time", chunk_delay=timedelta(milliseconds=60), **turn)


async def test_deltas_come_behind_their_start_and_lead_to_the_event(gateway: Any, stage: "Stage") -> None:
    probe = await open_session(stage, _slow(thinking="hm"))
    async with stream(gateway, probe, deltas=BOTH) as live:
        await probe.session.send("go")
        frames = await live.until("session.status_idle")

    previews = [frame for frame in frames if frame.type.startswith("event_")]
    assert [frame.id for frame in previews] == [None] * len(previews)
    starts = [frame.data["event"] for frame in previews if frame.type == "event_start"]
    finals = {frame.data["id"]: frame for frame in frames if frame.type in BOTH}
    assert {start["id"] for start in starts} <= finals.keys()
    assert len({start["id"] for start in starts}) == len(starts)
    assert [start for start in starts if start["type"] == "agent.message"]
    for start in starts:
        place = next(n for n, frame in enumerate(frames) if frame.data.get("event") == start)
        deltas = [(n, f) for n, f in enumerate(frames) if f.data.get("event_id") == start["id"]]
        assert all(place < number < frames.index(finals[start["id"]]) for number, _ in deltas)
        assert {delta.data["delta"]["index"] for _, delta in deltas} <= {0}
        text = "".join(delta.data["delta"]["content"]["text"] for _, delta in deltas)
        if start["type"] == "agent.thinking":
            assert text == ""
        else:
            assert finals[start["id"]].data["content"][0]["text"].startswith(text)
            assert text


@pytest.mark.parametrize("wanted", [[], ["agent.thinking"]])
async def test_only_previews_that_were_asked_for_are_sent(gateway: Any, stage: "Stage", wanted: list[str]) -> None:
    probe = await open_session(stage, _slow(thinking="hm"))
    async with stream(gateway, probe, deltas=wanted) as live, _with_deltas(gateway, probe) as other:
        await probe.session.send("go")
        frames = await live.until("session.status_idle")
        shown = await other.until("session.status_idle")

    assert "event_delta" in [frame.type for frame in shown]
    assert "event_delta" not in [frame.type for frame in frames]
    assert {frame.data["event"]["type"] for frame in frames if frame.type == "event_start"} <= set(wanted)


def _with_deltas(gateway: Any, probe: "Probe") -> Any:
    return stream(gateway, probe, deltas=BOTH)


async def test_a_failed_attempt_leaves_a_preview_without_its_event(gateway: Any, stage: "Stage") -> None:
    """The end of the request closes it, and the next attempt begins with a start of its own."""
    failing = ScriptedTurn(text="half", failure=ScriptedFailure())
    probe = await open_session(stage, failing, limits=Limits(retry_interval=timedelta(milliseconds=10)))
    async with stream(gateway, probe, deltas=BOTH) as live:
        await probe.session.send("go")
        frames = await live.until("session.status_idle")

    types = [frame.type for frame in frames]
    assert types.index("session.error") < types.index("session.thread_status_rescheduled")
    assert types.index("session.thread_status_rescheduled") + 1 == types.index("session.status_rescheduled")
    assert types.count("span.model_request_end") == 2


# --- the official SDK ------------------------------------------------------------------------------------------------


async def test_the_sdk_streams_and_accumulates(gateway: Any, stage: "Stage") -> None:
    """Its accumulator raises when a delta comes before its start or skips an index."""
    probe = await open_session(stage, _slow())
    snapshot, texts = None, list[str]()
    async with asyncio.timeout(PATIENCE.total_seconds()):
        events = gateway.sdk.beta.sessions.events
        async with await events.stream(probe.session.id, event_deltas=["agent.message"]) as live:
            await probe.session.send("go")
            async for event in live:
                snapshot = accumulate_managed_agents_event(snapshot, event)
                if snapshot is not None and snapshot.content:
                    texts.append(snapshot.content[0].text)
                if event.type == "session.status_idle":
                    break

    assert event.stop_reason.type == "end_turn"
    assert texts[-1] == "a few words that take their time"
    assert all(texts[-1].startswith(text) for text in texts)
    assert len(set(texts)) > 1


async def test_the_recipe_of_the_sdk_shows_everything_once(gateway: Any, stage: "Stage") -> None:
    """Open the stream, then list the history, then skip what is known."""
    probe = await open_session(stage)
    await probe.session.send_and_wait("one")
    await probe.idle()
    events = gateway.sdk.beta.sessions.events
    async with asyncio.timeout(PATIENCE.total_seconds()):
        async with await events.stream(probe.session.id) as live:
            await probe.session.send("two")
            known = {event.id async for event in await events.list(probe.session.id) if event.processed_at}
            shown = list[str]()
            async for event in live:
                if event.id not in known and event.processed_at:
                    shown.append(event.id)
                if event.type == "session.status_idle":
                    break

    complete = [event.id async for event in await events.list(probe.session.id)]
    assert set(complete) == known | set(shown)
    assert len(complete) == len(set(complete))


async def test_the_thread_streams_what_its_session_streams(gateway: Any, stage: "Stage") -> None:
    probe = await open_session(stage)
    (thread,) = (await gateway.sdk.beta.sessions.threads.list(probe.session.id)).data
    async with asyncio.timeout(PATIENCE.total_seconds()):
        events = gateway.sdk.beta.sessions.threads.events
        async with await events.stream(thread.id, session_id=probe.session.id) as live:
            await probe.session.send("go")
            async for event in live:
                if event.type == "session.thread_status_idle":
                    break

    assert event.session_thread_id == thread.id
    assert event.agent_name == "actor"


async def test_a_confirmation_is_asked_for_and_its_answer_shown(gateway: Any, stage: "Stage") -> None:
    turns = (ScriptedTurn(calls=[ScriptedCall("add"), ScriptedCall("look")]), ScriptedTurn(text="done"))
    probe = await open_session(
        stage, *turns, tools=[_add], custom=[LOOK], policy=PermissionPolicy(tools={"add": "ask"})
    )
    async with asyncio.timeout(PATIENCE.total_seconds()):
        async with await gateway.sdk.beta.sessions.events.stream(probe.session.id) as live:
            await probe.session.send("go")
            uses: dict[str, Any] = {}
            idles: list[Any] = []
            async for event in live:
                if event.type in ("agent.tool_use", "agent.custom_tool_use"):
                    uses[event.id] = event
                if event.type == "session.status_idle":
                    idles.append(event)
                    if event.stop_reason.type == "end_turn":
                        break
                    for id in event.stop_reason.event_ids:
                        if uses[id].type == "agent.tool_use":
                            assert (uses[id].evaluated_permission, uses[id].evaluation.type) == ("ask", "always_ask")
                            await probe.session.confirm(id, allow=True)
                        elif len(idles) > 1:
                            await probe.session.answer(id, "a bird")

    assert [len(idle.stop_reason.event_ids) for idle in idles[:-1]] == [2, 1]


# --- many, slow and leaving readers ----------------------------------------------------------------------------------


async def test_streams_that_were_left_leave_nothing_behind(
    gateway: Any, stage: "Stage", eventually: "Eventually"
) -> None:
    probe = await open_session(stage)
    async with stream(gateway, probe):
        pass
    before = await _settled(gateway, eventually)

    for _ in range(10):
        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(_open_and_leave(gateway, probe, read=number % 2 == 0))

    async def settled() -> bool:
        return len(gateway.gateway.streams) == 0 and _tasks() <= before

    await eventually(settled, "the tasks of 200 streams have ended")


async def _open_and_leave(gateway: Any, probe: "Probe", *, read: bool) -> None:
    url = f"/v1/sessions/{probe.session.id}/events/stream"
    async with gateway.http.stream("GET", url) as response:
        if read:
            await anext(response.aiter_bytes())


def _tasks() -> int:
    return sum(1 for task in asyncio.all_tasks() if not task.done())


async def _settled(gateway: Any, eventually: Callable[..., Awaitable[None]]) -> int:
    async def idle() -> bool:
        return len(gateway.gateway.streams) == 0

    await eventually(idle, "no stream is open")
    return _tasks()


async def test_a_reader_that_does_not_read_slows_nobody(gateway: Any, stage: "Stage") -> None:
    """One client opens a stream and reads nothing, of far more than the connection holds; another sees all at once."""
    text = "x" * 200_000
    probe = await open_session(stage, ScriptedTurn(text=text))
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    path = f"/v1/sessions/{probe.session.id}/events/stream"
    writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\nx-api-key: ada\r\n\r\n".encode())
    await reader.readuntil(b"open")

    async with stream(gateway, probe) as live:
        for number in range(20):
            await probe.session.send(f"{number}")
            frames = await live.until("session.status_idle")
            assert text in [frame.data["content"][0]["text"] for frame in frames if frame.type == "agent.message"]

    assert len(gateway.gateway.streams) >= 1
    data = b""
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while data.count(b'"session.status_idle"') < 20:
            data += await reader.read(1 << 16)
    writer.close()
    await writer.wait_closed()


async def test_a_silent_stream_is_pinged(stage: "Stage") -> None:
    from tests.client.gateway.conftest import served

    probe = await stage.open(await stage.agent())
    async with (
        served(stage, GatewayOptions(ping=timedelta(milliseconds=50))) as gateway,
        stream(gateway, probe) as live,
    ):
        pings = await live.until("ping", 3)

    assert [(frame.name, frame.id, frame.data) for frame in pings] == [("ping", None, {"type": "ping"})] * 3


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (CheckpointError("a part of the log is gone"), "api_error", "a part of the log is gone"),
        (ValueError("secret"), "api_error", "the gateway failed; its log has more under req_1"),
    ],
)
async def test_a_failure_in_the_middle_ends_the_stream_with_an_error(error: Exception, kind: str, said: str) -> None:
    async def events() -> AsyncGenerator[Any, None]:
        yield UserMessage.text("hi", id="sevt_1").model_copy(update={"seq": 1})
        raise error

    call: Any = Call(cast(Any, None), cast(Any, None), cast(Any, None), {}, None, StreamQuery(), "req_1")
    shown = Subject(SessionId("sesn_1"), "actor")
    frames = [frame async for frame in EventFrames(call, shown, None).all(events())]

    assert len(frames) == 3
    name, data = frames[-1].decode().strip().split("\n")
    assert name == "event: error"
    told = json.loads(data.removeprefix("data: "))
    assert told == {"type": "error", "error": {"type": kind, "message": said}, "request_id": "req_1"}
