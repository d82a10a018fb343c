"""An interrupt in the middle of a streaming answer: from the call to the session being idle again."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from time import perf_counter

from process import server_without_worker_commands
from raw import RawAgent
from report import Row, Table, percentile, spread
from script import QUESTION, STALL
from setting import Setting, pair
from talk import Ours, Raw
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

from sojourn.types import ModelRequestStart, SessionIdle

HOLD_SECONDS = 0.3
"""How long the model has been streaming and stalling when the interrupt comes."""


async def run(setting: Setting) -> Table:
    count = setting.pick(40, 15, 2)
    rows = [await _row("worker commands (embedded server)", setting.address, count, setting)]
    async with server_without_worker_commands() as address:
        rows.append(await _row("heartbeats only (any server)", address, count, setting))
    return Table(
        "interrupt",
        "4. Interrupt of a stalled, streaming model call: interrupt() → session.status_idle seen",
        rows,
        (
            "raw: a signal that cancels the activity, which beats every 100 ms; the partial answer is lost. sojourn"
            " keeps the text so far, closes open tool calls and says idle.",
        ),
    )


async def _row(name: str, address: str, count: int, setting: Setting) -> Row:
    ours: list[float] = []
    raw: list[float] = []
    async with pair(address, script=STALL) as both:
        for number in range(0, count, 5):
            setting.say(f"{name}: {number} of {count}")
            ours += await _interrupt_ours(both.ours, min(5, count - number))
            raw += await _interrupt_raw(both.raw, min(5, count - number))
    p95 = percentile(ours, 95)
    return Row(
        f"{name}: p50 / p95",
        spread(ours),
        spread(raw),
        f"{percentile(ours, 50) / percentile(raw, 50):.2f}",
        "p95 ≤ 250 ms",
        p95 <= 0.25,
        {"ours_p50": percentile(ours, 50), "ours_p95": p95, "raw_p50": percentile(raw, 50)},
    )


async def _interrupt_ours(ours: Ours, count: int) -> list[float]:
    session = await ours.runtime.start_session(ours.agent)
    taken: list[float] = []
    async with ours.runtime.follow(session, from_seq=0) as events:
        for _ in range(count):
            await session.send(QUESTION)
            while not isinstance(await anext(events), ModelRequestStart):
                pass
            await asyncio.sleep(HOLD_SECONDS)
            began = perf_counter()
            await session.interrupt()
            while not isinstance(await anext(events), SessionIdle):
                pass
            taken.append(perf_counter() - began)
    return taken


async def _interrupt_raw(raw: Raw, count: int) -> list[float]:
    id = f"raw-{uuid.uuid4().hex}"
    handle = await raw.client.start_workflow(RawAgent.run, id=id, task_queue=raw.task_queue)
    events = aiter(handle.fetch_history_events(wait_new_event=True))
    taken: list[float] = []
    for _ in range(count):
        await handle.signal(RawAgent.message, STALL)
        await _until(events, EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED)
        await asyncio.sleep(HOLD_SECONDS)
        began = perf_counter()
        await handle.signal(RawAgent.interrupt)
        await _until(events, EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED)
        await _until(events, EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED)
        taken.append(perf_counter() - began)
    return taken


async def _until(events: AsyncIterator[HistoryEvent], kind: "EventType.ValueType") -> None:
    while (await anext(events)).event_type != kind:
        pass
