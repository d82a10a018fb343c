"""One session, three processes: one starts it, one watches it, one approves what it wants to do.

    sojourn up                                   # a server
    python examples/approval.py worker           # runs the tool
    python examples/approval.py start            # prints the session's id and is gone
    python examples/approval.py watch SESSION    # streams the log, from its beginning
    python examples/approval.py approve SESSION  # says yes, a second or a week later

All of them find the server at TEMPORAL_ADDRESS, or at localhost:7233.
"""

import asyncio
import sys

from sojourn.activities import tool
from sojourn.client import AgentRuntime
from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.types import (
    AgentDefinition,
    AgentMessage,
    AgentToolResult,
    AgentToolUse,
    SessionIdle,
    UserMessage,
    text_of,
)
from sojourn.worker import SojournWorker, WorkerOptions

QUEUE = "approval-example"
SCRIPT = [
    ScriptedTurn(text="I refund the order.", calls=[ScriptedCall("refund", {"order": "A-17", "euros": 40})]),
    ScriptedTurn(text="The 40 euros are on their way."),
]


@tool(permission="ask")
async def refund(order: str, euros: int) -> str:
    """Pay the money for an order back."""
    return f"refunded {euros} euros for {order}"


async def worker(runtime: AgentRuntime) -> None:
    options = WorkerOptions(task_queue=QUEUE)
    await SojournWorker(runtime.client, tools=[refund], scripts={"refund": SCRIPT}, options=options).run()


async def start(runtime: AgentRuntime) -> None:
    agent = await runtime.create(AgentDefinition(name="support", model="scripted:refund", tools=["refund"]))
    session = await runtime.start_session(agent)
    await session.send("My order A-17 never came.")
    print(session.id)


async def watch(runtime: AgentRuntime, session_id: str) -> None:
    async for event in runtime.stream_events(session_id, from_seq=0):
        match event:
            case UserMessage() | AgentMessage() | AgentToolResult():
                print(event.seq, event.type, text_of(event.content), flush=True)
            case AgentToolUse():
                print(event.seq, event.type, event.name, event.input, flush=True)
            case SessionIdle():
                print(event.seq, event.type, event.stop_reason.type, flush=True)
                if event.stop_reason.type == "end_turn":
                    return


async def approve(runtime: AgentRuntime, session_id: str) -> None:
    session = runtime.session(session_id)
    for call in await session.pending_actions():
        await session.confirm(call, allow=True)
        print("approved", call.name)


async def main(*arguments: str) -> None:
    async with AgentRuntime.connect(task_queue=QUEUE) as runtime:
        match arguments:
            case ["worker"]:
                await worker(runtime)
            case ["start"]:
                await start(runtime)
            case ["watch", session_id]:
                await watch(runtime, session_id)
            case ["approve", session_id]:
                await approve(runtime, session_id)
            case _:
                sys.exit(__doc__)


asyncio.run(main(*sys.argv[1:]))
