"""From the history to the subscriber: how long after the server has stored an event does everybody have it?

The clock: the server stamps an event when it adds it to the history, subscribers take the time when they have it in
hand, all on one host. The stamp is taken before the event is written, so the figures contain the server's write. Each
stamp is checked to lie between the call that sent the event and its return.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC

from report import Row, Table, percentile, spread
from setting import Setting, pair
from talk import Ours
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client

from sojourn.client import SessionHandle
from sojourn.types import SessionEvent, SystemMessage, TextBlock
from sojourn.types.record import UserEvents

PACE_SECONDS = 0.04
"""Between two events: longer than a workflow task, so that no event waits for the end of one."""


@dataclass
class Watch:
    """What all watchers of one kind saw."""

    seconds: list[float] = field(default_factory=list)
    received: int = 0


async def run(setting: Setting) -> Table:
    events, rounds = setting.pick(60, 40, 5), setting.pick(4, 2, 1)
    audiences = (1, 50, 200)
    ours, raw = {each: Watch() for each in audiences}, {each: Watch() for each in audiences}
    doubtful = 0
    async with pair(setting.address) as both:
        for number in range(rounds):
            for audience in audiences:
                setting.say(f"{audience} subscribers, round {number + 1} of {rounds}")
                doubtful += await _ours(both.ours, ours[audience], audience, events)
                doubtful += await _raw(both.ours, raw[audience], audience, events)
    total = events * rounds
    rows = [_row(audience, ours[audience], raw, total) for audience in audiences]
    return Table(
        "latency",
        "3. Event latency: stored in history → in a subscriber's hands",
        rows,
        (
            "Subscribers of one session in one process. sojourn shares one long poll among them; raw is"
            " fetch_history_events(wait_new_event=True), one for each watcher, on the same kind of session.",
            "The raw column shows as many raw watchers; the ratio compares with ONE raw watcher.",
            f"Clock: event time of the server, same host; {doubtful} of {2 * 3 * total} stamps outside their send.",
        ),
    )


async def _session(ours: Ours) -> SessionHandle:
    return await ours.runtime.start_session(ours.agent)


async def _send(session: SessionHandle, count: int, stored: dict[str, float]) -> int:
    """Send events that start no turn, at a steady pace. How many stamps lie outside their call."""
    sent: dict[str, tuple[float, float]] = {}
    for number in range(count):
        await asyncio.sleep(PACE_SECONDS)
        before = time.time()
        event = await session.send(SystemMessage(content=(TextBlock(text=f"note {number}"),)))
        sent[event.id] = (before, time.time())
    await asyncio.sleep(0.5)
    # A millisecond for the granularity of the clocks.
    return sum(not before - 0.001 <= stored.get(id, before) <= after + 0.001 for id, (before, after) in sent.items())


async def _ours(ours: Ours, watch: Watch, audience: int, count: int) -> int:
    session = await _session(ours)
    stored: dict[str, float] = {}

    async def subscriber(events: AsyncIterator[SessionEvent]) -> None:
        async for event in events:
            now = time.time()
            if isinstance(event, SystemMessage) and event.processed_at is not None:
                stored[event.id] = event.processed_at.timestamp()
                watch.seconds.append(now - stored[event.id])
                watch.received += 1

    async with AsyncExitStack() as stack:
        streams = [
            await stack.enter_async_context(ours.runtime.follow(session, from_seq=None)) for _ in range(audience)
        ]
        tasks = [asyncio.create_task(subscriber(each)) for each in streams]  # type: ignore[arg-type]
        doubtful = await _send(session, count, stored)
        await _end(tasks)
    await session.archive()
    return doubtful


async def _raw(ours: Ours, watch: Watch, audience: int, count: int) -> int:
    session = await _session(ours)
    client = ours.runtime.client
    stored: dict[str, float] = {}
    handle = client.get_workflow_handle(f"{ours.runtime.owner.workspace}/{session.id}")

    async def watcher() -> None:
        async for event in handle.fetch_history_events(wait_new_event=True):
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
                id = await _id_of(client, event)
                stored[id] = event.event_time.ToDatetime(tzinfo=UTC).timestamp()
                watch.seconds.append(time.time() - stored[id])
                watch.received += 1

    tasks = [asyncio.create_task(watcher()) for _ in range(audience)]
    await asyncio.sleep(0.3)
    doubtful = await _send(session, count, stored)
    await _end(tasks)
    await session.archive()
    return doubtful


async def _id_of(client: Client, event: HistoryEvent) -> str:
    payloads = event.workflow_execution_signaled_event_attributes.input.payloads
    record: UserEvents
    (record,) = await client.data_converter.decode(payloads, [UserEvents])
    return record.sent[0].id


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _row(audience: int, ours: Watch, raws: dict[int, Watch], total: int) -> Row:
    raw, one = raws[audience], raws[1]
    p50 = percentile(ours.seconds, 50)
    lost = audience * total - ours.received
    return Row(
        f"{audience} subscriber{'s' if audience > 1 else ''}: p50 / p95",
        spread(ours.seconds) + (f", {lost} LOST" if lost else ""),
        spread(raw.seconds),
        f"{p50 / percentile(one.seconds, 50):.2f}",
        "p50 ≤ 15 ms, none lost",
        p50 <= 0.015 and lost == 0,
        {"ours_p50": p50, "ours_p95": percentile(ours.seconds, 95), "raw_p50": percentile(raw.seconds, 50)},
    )
