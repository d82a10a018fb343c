"""The yardstick: the smallest agent loop one would write by hand on Temporal.

What it does: message by signal (the first one with the start) → model activity → tool activity → model activity →
answer; pydantic converter; unsandboxed and with the same worker settings as ours; it lives on for the next message and
passes the transcript to every model call, as hand-written agents and Pydantic AI's integration do.

What it lacks, and ours has: a numbered event log with ids, status and search attributes, a queue with priorities of
answers, permissions, streaming previews, retries that can be seen, usage, pause, continue-as-new, idempotent sends,
and a history that does not grow with the square of the conversation.
"""

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Literal

from pydantic import BaseModel
from temporalio import activity, workflow
from temporalio.client import Client, GrpcCompression
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from script import CITY, REPLY, RESULT, STALL

RAW_MODEL = "raw_model"
RAW_TOOL = "raw_tool"


async def connect_raw(address: str) -> Client:
    """Temporal's own pydantic converter; no compression on loopback, as ours."""
    return await Client.connect(address, data_converter=pydantic_data_converter, grpc_compression=GrpcCompression.NONE)


class RawMessage(BaseModel):
    """One entry of the transcript."""

    role: Literal["user", "assistant", "tool"]
    text: str = ""
    call: str | None = None
    """Argument of the tool call, if the assistant makes one."""


@activity.defn(name=RAW_MODEL)
async def raw_model(transcript: list[RawMessage]) -> RawMessage:
    """A model that calls the tool once in every turn, or stalls and can be cancelled."""
    last = transcript[-1]
    while last.text == STALL:
        activity.heartbeat()
        await asyncio.sleep(0.1)
    if last.role == "tool":
        return RawMessage(role="assistant", text=REPLY)
    return RawMessage(role="assistant", call=CITY)


@activity.defn(name=RAW_TOOL)
async def raw_tool(city: str) -> str:
    """The tool."""
    return RESULT


@workflow.defn(name="RawAgent")
class RawAgent:
    """A conversation."""

    def __init__(self) -> None:
        self._inbox: list[str] = []
        self._transcript: list[RawMessage] = []
        self._running: workflow.ActivityHandle[RawMessage] | None = None

    @workflow.run
    async def run(self) -> None:
        """Answer one message after another."""
        while True:
            await workflow.wait_condition(lambda: bool(self._inbox))
            self._transcript.append(RawMessage(role="user", text=self._inbox.pop(0)))
            with suppress(ActivityError):
                await self._turn()

    async def _turn(self) -> None:
        while (call := (await self._model()).call) is not None:
            result = await workflow.execute_activity(raw_tool, call, start_to_close_timeout=timedelta(minutes=2))
            self._transcript.append(RawMessage(role="tool", text=result))

    async def _model(self) -> RawMessage:
        self._running = workflow.start_activity(
            raw_model,
            self._transcript,
            start_to_close_timeout=timedelta(minutes=10),
            heartbeat_timeout=timedelta(seconds=3),
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )
        answer = await self._running
        self._transcript.append(answer)
        return answer

    @workflow.signal
    def message(self, text: str) -> None:
        """A message from the user."""
        self._inbox.append(text)

    @workflow.signal
    def interrupt(self) -> None:
        """End the turn."""
        if self._running is not None:
            self._running.cancel()
