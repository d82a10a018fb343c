"""The HTTP gateway beside the Python client that does the same: requests, streams, memory.

The gateway is a process of its own; both sides hold as many long polls as the embedded server has room for. Its client
is a lean one of this process, in which the Python client works too. Event latency is counted from the server's own
stamp, as in `latency.py`, which a reader of this process sees; both sides are woken by their own sends.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from time import perf_counter, time

from process import GatewayProcess, gateway_process, this_process, worker_process
from report import Row, Table, percentile, spread
from setting import Setting
from talk import Ours
from web import connection

from sojourn.client import SessionHandle, connect_client
from sojourn.types import SessionEvent, SystemMessage, TextBlock

CALLERS = 20
PACE_SECONDS = 0.04
"""Between two events, as in `latency.py`."""
SETTLE_SECONDS = 1.0
NOTE = {"type": "system.message", "content": [{"type": "text", "text": "a note"}]}
"""Starts no turn, so that the gateway is measured and not a model."""


@dataclass
class Watch:
    """What the streams of one side saw."""

    received: dict[str, list[float]] = field(default_factory=dict)
    """When each event was in the hands of its readers."""
    bytes_each: float = 0.0
    """Memory of their process for each of them."""


@dataclass
class Seen:
    """What became of the events that were sent."""

    latencies: list[float]
    lost: int
    bytes_each: float


@dataclass(frozen=True)
class Stand:
    """Both sides on one server."""

    ours: Ours
    gateway: GatewayProcess


async def run(setting: Setting) -> Table:
    count = setting.pick(1000, 300, 10)
    async with worker_process("ours", setting.address) as worker:
        ours = await Ours.make(await connect_client(setting.address), worker.task_queue)
        try:
            async with gateway_process(ours.runtime) as gateway:
                stand = Stand(ours, gateway)
                setting.say(f"starting {count} sessions")
                sessions = await _sessions(ours, count)
                rows = [
                    *await _requests(stand, sessions[0], setting),
                    await _first_event(stand, sessions[0], setting),
                    *await _streams(stand, sessions, setting),
                ]
        finally:
            await ours.runtime.close()
    return Table(
        "gateway",
        "6. The HTTP gateway",
        rows,
        (
            f"Requests by {CALLERS} callers at a time; a send stores an event that starts no turn.",
            "Event latency: stored in history → in a subscriber's hands; the sender is another caller there.",
            "Memory: of the gateway process, and of this one, which is the Python client's.",
        ),
        sides=("gateway", "Python client"),
    )


async def _sessions(ours: Ours, count: int) -> list[SessionHandle]:
    made: list[SessionHandle] = []
    while len(made) < count:
        some = range(min(CALLERS, count - len(made)))
        made += await asyncio.gather(*(ours.runtime.start_session(ours.agent) for _ in some))
    return made


# --- requests ----------------------------------------------------------------------------------------------------


async def _requests(stand: Stand, session: SessionHandle, setting: Setting) -> list[Row]:
    total, rounds = setting.pick(1000, 400, 40), setting.pick(3, 2, 1)
    path = f"/v1/sessions/{session.id}"
    kinds: dict[str, tuple[tuple[str, str, object], Callable[[], Awaitable[object]]]] = {
        "get a session": (("GET", path, None), lambda: stand.ours.runtime.get_session(session)),
        "send an event": (("POST", f"{path}/events", {"events": [NOTE]}), lambda: session.send(_note())),
    }
    rows = []
    for name, (request, call) in kinds.items():
        ours: list[float] = []
        raw: list[float] = []
        for number in range(rounds):
            setting.say(f"{name}, round {number + 1} of {rounds}")
            ours.append(await _http_rate(stand.gateway, request, total))
            raw.append(await _rate([call] * CALLERS, total))
        rows.append(_rate_row(name, max(ours), max(raw)))
    return rows


async def _http_rate(gateway: GatewayProcess, request: tuple[str, str, object], total: int) -> float:
    async with AsyncExitStack() as stack:
        made = [await stack.enter_async_context(connection(gateway.url, gateway.key)) for _ in range(CALLERS)]
        return await _rate([lambda each=each: each.request(*request) for each in made], total)  # type: ignore[misc]


async def _rate(calls: list[Callable[[], Awaitable[object]]], total: int) -> float:
    """Calls a second, one after another by each caller."""

    async def caller(call: Callable[[], Awaitable[object]]) -> None:
        for _ in range(total // len(calls)):
            await call()

    began = perf_counter()
    async with asyncio.TaskGroup() as callers:
        for call in calls:
            callers.create_task(caller(call))
    return total // len(calls) * len(calls) / (perf_counter() - began)


def _rate_row(name: str, ours: float, raw: float) -> Row:
    figures = {"ours": ours, "raw": raw}
    return Row(f"{name}: requests/s", f"{ours:.0f}", f"{raw:.0f}", f"{ours / raw:.2f}", figures=figures)


# --- streams -----------------------------------------------------------------------------------------------------


async def _first_event(stand: Stand, session: SessionHandle, setting: Setting) -> Row:
    """From the request of a stream that shows the past to its first event."""
    setting.say("first events")
    ours: list[float] = []
    raw: list[float] = []
    for _ in range(setting.pick(50, 30, 5)):
        began = perf_counter()
        async with connection(stand.gateway.url, stand.gateway.key) as web:
            async for event in web.lines(f"/v1/sessions/{session.id}/events/stream?from_seq=0"):
                if event:
                    break
        ours.append(perf_counter() - began)
        began = perf_counter()
        async with stand.ours.runtime.follow(session, from_seq=0) as events:
            await anext(aiter(events))
        raw.append(perf_counter() - began)
    return _time_row("first event of a stream", ours, raw)


async def _streams(stand: Stand, sessions: list[SessionHandle], setting: Setting) -> list[Row]:
    events = setting.pick(100, 60, 5)
    rows = []
    for audience in (1, 100, len(sessions)):
        if audience > len(sessions):
            continue
        setting.say(f"{audience} streams")
        some = sessions[:audience]
        ours, raw = await _gateway_watch(stand, some, events), await _python_watch(stand, some, events)
        name = f"{audience:,} open stream{'s' if audience > 1 else ''} of as many sessions: event latency"
        rows.append(_latency_row(name, ours, raw))
    memory = {"ours": ours.bytes_each, "raw": raw.bytes_each}
    return [
        *rows,
        Row(
            f"memory for each of {len(sessions):,} open streams",
            _kilobytes(ours.bytes_each),
            _kilobytes(raw.bytes_each),
            f"{ours.bytes_each / raw.bytes_each:.2f}" if raw.bytes_each > 0 else "",
            figures=memory,
        ),
    ]


async def _gateway_watch(stand: Stand, sessions: list[SessionHandle], count: int) -> Seen:
    watch = Watch()
    before = stand.gateway.resident_bytes
    async with AsyncExitStack() as stack:
        tasks = []
        for session in sessions:
            web = await stack.enter_async_context(connection(stand.gateway.url, stand.gateway.key))
            lines = web.lines(f"/v1/sessions/{session.id}/events/stream")
            await anext(lines)
            tasks.append(asyncio.create_task(_note_web(lines, watch)))
        await asyncio.sleep(SETTLE_SECONDS)
        watch.bytes_each = (stand.gateway.resident_bytes - before) / len(sessions)
        sender = await stack.enter_async_context(connection(stand.gateway.url, stand.gateway.key))

        async def send(session: SessionHandle) -> str:
            answer = await sender.request("POST", f"/v1/sessions/{session.id}/events", {"events": [NOTE]})
            return str(answer["data"][0]["id"])

        stored = await _send(stand, sessions, count, send)
        await _end(tasks)
    return _measured(watch, stored)


async def _python_watch(stand: Stand, sessions: list[SessionHandle], count: int) -> Seen:
    watch = Watch()
    before = this_process().resident_bytes
    async with AsyncExitStack() as stack:
        runtime = stand.ours.runtime
        streams = [await stack.enter_async_context(runtime.follow(each, from_seq=None)) for each in sessions]
        tasks = [asyncio.create_task(_note_python(each, watch)) for each in streams]  # type: ignore[arg-type]
        await asyncio.sleep(SETTLE_SECONDS)
        watch.bytes_each = (this_process().resident_bytes - before) / len(sessions)

        async def send(session: SessionHandle) -> str:
            return str((await session.send(_note())).id)

        stored = await _send(stand, sessions, count, send)
        await _end(tasks)
    return _measured(watch, stored)


async def _note_web(lines: AsyncIterator[dict[str, object]], watch: Watch) -> None:
    async for event in lines:
        watch.received.setdefault(str(event.get("id")), []).append(time())


async def _note_python(events: AsyncIterator[SessionEvent], watch: Watch) -> None:
    async for event in events:
        watch.received.setdefault(str(event.id), []).append(time())


async def _send(
    stand: Stand, sessions: list[SessionHandle], count: int, send: Callable[[SessionHandle], Awaitable[str]]
) -> dict[str, float]:
    """Send events to one session after another, at a steady pace; when the server stored each."""
    sent: dict[str, SessionHandle] = {}
    for number in range(count):
        await asyncio.sleep(PACE_SECONDS)
        # A stride that has no part in common with their number meets all of them.
        session = sessions[number * 7 % len(sessions)]
        sent[await send(session)] = session
    await asyncio.sleep(SETTLE_SECONDS)
    stored: dict[str, float] = {}
    for session in {each.id: each for each in sent.values()}.values():
        for event in await stand.ours.runtime.list_events(session):
            if event.id in sent and event.processed_at is not None:
                stored[event.id] = event.processed_at.timestamp()
    return stored


def _kilobytes(size_bytes: float) -> str:
    # Streams may also take what something before them gave back.
    return f"{size_bytes / 1000:.0f} KB" if size_bytes > 0 else "within the noise"


def _measured(watch: Watch, stored: dict[str, float]) -> Seen:
    found = [watch.received[id][0] - at for id, at in stored.items() if id in watch.received]
    return Seen(found, len(stored) - len(found), watch.bytes_each)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _note() -> SystemMessage:
    return SystemMessage(content=(TextBlock(text="a note"),))


def _latency_row(name: str, ours: Seen, raw: Seen) -> Row:
    row = _time_row(name, ours.latencies, raw.latencies)
    lost = f", {ours.lost} LOST" if ours.lost else ""
    return Row(row.what, row.ours + lost, row.raw, row.ratio, figures=row.figures)


def _time_row(name: str, ours: list[float], raw: list[float]) -> Row:
    mine, its = percentile(ours, 50), percentile(raw, 50)
    figures = {"ours_p50": mine, "ours_p95": percentile(ours, 95), "raw_p50": its, "raw_p95": percentile(raw, 95)}
    return Row(f"{name}: p50 / p95", spread(ours), spread(raw), f"{mine / its:.2f}", figures=figures)
