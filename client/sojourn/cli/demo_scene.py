"""The scenes of the demonstration: what is done to the session, one after the other."""

import asyncio
import time
from datetime import timedelta

from sojourn.cli.demo_check import CRASH_TOOLS
from sojourn.cli.demo_process import DemoProcess
from sojourn.cli.demo_stage import DemoError, ModelError, Stage
from sojourn.testing import demo as desk
from sojourn.types import (
    AgentToolUse,
    EventId,
    RequiresAction,
    SessionClosedError,
    SessionErrorEvent,
    SessionIdle,
    UserInterrupt,
    UserMessage,
    UserToolConfirmation,
)
from sojourn.types.event import SessionPaused, SessionRunning
from sojourn.types.id import new_event_id

IN_THE_MIDDLE = timedelta(seconds=1)
"""How long after the effect of a tool its worker is killed."""


async def stream_text(stage: Stage) -> None:
    """Text is seen while it is written."""
    sent = await stage.send(UserMessage.text(desk.GREETING))
    await finish(stage, sent)


async def approve(stage: Stage) -> None:
    """Two calls at once; one waits for a person."""
    sent = await stage.send(UserMessage.text(desk.BOOKING))
    await finish(stage, sent)


async def crash(stage: Stage, worker: DemoProcess, *, after: timedelta = IN_THE_MIDDLE) -> DemoProcess:
    """The worker dies in the middle of two tool calls.

    Returns:
        The worker that took over.
    """
    message = UserMessage.text(desk.PAYMENT, id=new_event_id())
    sent = await stage.send(message)
    stage.screen.say("the client sends the same message again, as one does after a lost connection: it stays one")
    await stage.send(message)
    await stage.until("the tools to have their effect", lambda: _at_work(stage) or _turn_end(stage, sent))
    await asyncio.sleep(after.total_seconds())
    stage.screen.say(f"kill -9 {worker.pid}: the worker is gone, in the middle of its calls")
    await worker.kill()
    killed, seen = time.monotonic(), (len(stage.events), len(stage.effects()))
    worker = await stage.crew.worker()
    stage.screen.say(f"a new worker starts, process {worker.pid}; nobody tells it about the session")
    if _turn_end(stage, sent) is None:
        await stage.until(
            "the session to go on by itself", lambda: (len(stage.events), len(stage.effects())) > seen or None
        )
        stage.screen.say(f"{time.monotonic() - killed:.1f} s after the kill the session has gone on by itself")
    await finish(stage, sent)
    stage.screen.say("the ledger of the outside world, by the tools' keys:")
    for effect in stage.effects():
        if effect.tool in CRASH_TOOLS:
            stage.screen.say(f"  {effect.tool:<13} {effect.key}  attempt {effect.attempt}")
    return worker


async def interrupt(stage: Stage) -> None:
    """Stop in mid-stream; what was said stays."""
    known = set(stage.previews)
    sent = await stage.send(UserMessage.text(desk.STORY))
    await stage.until("some text", lambda: _written(stage, known, sent))
    stage.screen.say("interrupt")
    await stage.send(UserInterrupt())
    await finish(stage, sent)


async def pause(stage: Stage) -> EventId:
    """A message that is sent during a pause waits, and is answered after it.

    Returns:
        The message.
    """
    await stage.session.pause()
    await stage.until("the pause", lambda: any(isinstance(event, SessionPaused) for event in stage.events) or None)
    sent = await stage.send(UserMessage.text(desk.LATE))
    await stage.until("the message", lambda: any(event.id == sent for event in stage.events) or None)
    stage.screen.say("the message is stored, and nothing runs")
    await asyncio.sleep(1)
    stage.screen.say("resume")
    await stage.session.resume()
    await finish(stage, sent)
    return sent


async def archive(stage: Stage) -> None:
    """Seal the session; its log can be read for ever."""
    await stage.session.archive()
    await stage.until("the terminal event", stage.ended)
    try:
        await stage.session.send("Anybody there?")
    except SessionClosedError as error:
        stage.screen.say(f"a message now is refused: {error}")
    else:
        raise DemoError("the archived session took a message")


async def finish(stage: Stage, sent: EventId) -> None:
    """Wait for the end of the turn of a message; answer what it asks on the way."""
    answered: set[EventId] = set()
    while True:
        idle = await stage.until("the end of the turn", lambda: _turn_end(stage, sent, answered))
        _fail_with_model(stage)
        if not isinstance(idle.stop_reason, RequiresAction):
            return
        answered.add(idle.id)
        await _allow(stage, idle.stop_reason)


async def _allow(stage: Stage, wanted: RequiresAction) -> None:
    names = {event.id: event.name for event in stage.events if isinstance(event, AgentToolUse)}
    for id in wanted.event_ids:
        stage.screen.say(f"a second client, on a connection of its own, allows {names.get(id, id)}")
        await stage.send(UserToolConfirmation(tool_use_id=id, result="allow"), runtime=stage.second)


def _turn_end(stage: Stage, sent: EventId, answered: set[EventId] | None = None) -> SessionIdle | None:
    """The idle that ends the turn of a message, or asks for something that was not answered yet."""
    begun = False
    for event in stage.events:
        if isinstance(event, SessionRunning) and event.user_event_id is not None:
            begun = event.user_event_id == sent
        elif begun and isinstance(event, SessionIdle) and event.id not in (answered or ()):
            return event
    return None


def _fail_with_model(stage: Stage) -> None:
    for event in stage.events:
        if isinstance(event, SessionErrorEvent) and event.error.retry_status.type != "retrying":
            raise ModelError(f"the turn failed: {event.error.message}")


def _at_work(stage: Stage) -> bool | None:
    """Whether the tools that take long have begun: both, where the script says so."""
    begun = {effect.tool for effect in stage.effects()}.intersection(CRASH_TOOLS)
    return len(begun) >= (len(CRASH_TOOLS) if stage.scripted else 1) or None


def _written(stage: Stage, known: set[EventId], sent: EventId) -> bool | SessionIdle | None:
    """Whether a good part of a new text has been seen, or it is too late for that."""
    fresh = any(len(text) > 60 for id, text in stage.previews.items() if id not in known)
    return fresh or _turn_end(stage, sent)
