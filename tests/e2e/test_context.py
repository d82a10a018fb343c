"""A model sees the same on a worker that has followed a session from the start and on one that reads its log afresh."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from sojourn.activities import tool
from sojourn.activities.conversation import Message, UserTurn
from sojourn.activities.estimate import tokens_of
from sojourn.activities.model import ModelRequest
from sojourn.activities.session_log import SessionLogs
from sojourn.testing import ScriptedCall, ScriptedTurn
from sojourn.types import (
    Compaction,
    ContextCompacted,
    ModelRequestStart,
    PermissionPolicy,
    RollOver,
    SystemMessage,
    TextBlock,
    Usage,
    UserMessage,
)
from sojourn.types.chain import LONG_POLL, ChainReader
from sojourn.types.history import RunDecoder
from sojourn.types.record import (
    CallModelInput,
    CallModelResult,
    CompactContextInput,
    CompactContextResult,
    Record,
    RunToolResult,
)

if TYPE_CHECKING:
    from tests.conftest import PlayedModel, Probe, Stage


async def look(place: str) -> str:
    """Look somewhere."""
    return f"{place}: nothing"


@tool(idempotent=True)
async def count(things: str) -> str:
    """Count things."""
    return f"three {things}"


async def burn(house: str) -> str:
    """Never allowed."""
    return house


@tool(name="look")
async def look_long(place: str) -> str:
    """Look somewhere, and find a lot."""
    return f"{place}: nothing " * 40


def calls(*names: str) -> ScriptedTurn:
    inputs = {"look": {"place": "attic"}, "count": {"things": "mice"}, "burn": {"house": "all"}}
    return ScriptedTurn(text=f"I use {names}", calls=[ScriptedCall(name, inputs[name]) for name in names])


PLAY = (
    calls("look"),
    calls("look", "look"),
    calls("look", "count"),
    calls("look"),
    calls("look", "burn"),
    calls("count"),
    ScriptedTurn(text="Done."),
)


async def read_afresh(stage: "Stage", probe: "Probe") -> list[tuple[Message, ...]]:
    """What each model step of the session is about on a worker that has never heard of it; compactions are skipped."""
    steps: list[tuple[str, CallModelInput | CompactContextInput]] = []
    reader = ChainReader(stage.client, probe.workflow_id, await _first_run(stage, probe))
    while not reader.ended:
        run = reader.run_id
        for stored in await reader.read(wait=LONG_POLL) or ():
            if isinstance(stored.record, CallModelInput | CompactContextInput):
                steps.append((run, stored.record))
    seen = []
    for run, step in steps:
        _, conversation = await SessionLogs(stage.client).get(probe.workflow_id).context(run, step)
        if isinstance(step, CallModelInput):
            seen.append(tuple(conversation.messages))
    return seen


async def _first_run(stage: "Stage", probe: "Probe") -> str:
    events = stage.client.get_workflow_handle(probe.workflow_id).fetch_history_events()
    return (await anext(events)).workflow_execution_started_event_attributes.first_execution_run_id


@pytest.mark.parametrize("roll_over", [None, RollOver(max_events=40)], ids=["one run", "many runs"])
async def test_context_is_the_fold_of_the_log(
    stage: "Stage", played: "type[PlayedModel]", roll_over: RollOver | None
) -> None:
    model = played(*PLAY)
    policy = PermissionPolicy(tools={"burn": "deny"})
    probe = await stage.session(script=model, tools=[look, count, burn], policy=policy, roll_over=roll_over)

    for turn in range(3):
        await stage.runtime.send_event(
            probe.session, SystemMessage(content=(TextBlock(text=f"rule {turn}"),)), UserMessage.text(f"turn {turn}")
        )
        await probe.idle(turn + 1)
    await probe.session.archive()

    shown = [tuple(request.messages) for request in model.requests]
    assert len(shown) == 3 * len(PLAY)
    assert await read_afresh(stage, probe) == shown
    assert (await probe.runs() > 1) is (roll_over is not None)


def counted(model: "PlayedModel") -> Callable[[ModelRequest], ScriptedTurn]:
    """The script, with a usage that a provider might count."""

    def script(request: ModelRequest) -> ScriptedTurn:
        needed = sum(map(tokens_of, request.messages))
        return replace(model(request), usage=Usage(input_tokens=needed, output_tokens=10))

    return script


DONE = ScriptedTurn(text="Done.")
SMALL = Compaction(window_tokens=1000, threshold=0.5, keep=0.1)


@pytest.mark.parametrize("roll_over", [None, RollOver(max_events=40)], ids=["one run", "many runs"])
async def test_context_is_the_fold_of_the_log_across_compactions(
    stage: "Stage", played: "type[PlayedModel]", roll_over: RollOver | None
) -> None:
    model = played(*PLAY)
    probe = await stage.session(script=counted(model), tools=[look_long, count], compaction=SMALL, roll_over=roll_over)

    for turn in range(2):
        rule = SystemMessage(content=(TextBlock(text=f"rule {turn}"),))
        await stage.runtime.send_event(probe.session, rule, UserMessage.text(f"turn {turn}"))
        await probe.idle(turn + 1)
    await probe.session.archive()

    shown = [tuple(request.messages) for request in model.requests]
    assert len(probe.of(ContextCompacted)) > 1
    assert len(shown) == 2 * len(PLAY)
    assert await read_afresh(stage, probe) == shown
    assert (await probe.runs() > 1) is (roll_over is not None)


async def test_worker_that_has_missed_a_compaction_reads_the_log(stage: "Stage", played: "type[PlayedModel]") -> None:
    """It has answered the step before and run all its tools, so without the compaction it would know what comes."""
    full = Usage(input_tokens=800, output_tokens=10)
    slow = replace(calls("look"), text="look " * 10, chunk_delay=timedelta(milliseconds=50), usage=full)
    probe = await stage.session(ScriptedTurn(text="long " * 400), slow, DONE, tools=[look], compaction=SMALL)
    await probe.session.send_and_wait("tell me")
    await probe.session.send("look around")
    await probe.saw(ModelRequestStart, 2)
    run = await _first_run(stage, probe)
    warm = SessionLogs(stage.client).get(probe.workflow_id)
    await warm.context(run, [each for each in await _records(stage, probe, run) if isinstance(each, CallModelInput)][1])
    await probe.idle(2)
    await probe.session.archive()
    records = await _records(stage, probe, run)
    assert [type(record) for record in records][-6:-2] == [
        CompactContextInput,
        CompactContextResult,
        CallModelInput,
        CallModelResult,
    ]

    for record in records:
        if isinstance(record, CallModelResult) and record.calls:
            warm.remember(record)
        if isinstance(record, RunToolResult):
            warm.remember_result(record)
    step = [record for record in records if isinstance(record, CallModelInput)][-1]
    _, seen = await warm.context(run, step)
    _, expected = await SessionLogs(stage.client).get(probe.workflow_id).context(run, step)

    assert seen.messages == expected.messages
    assert isinstance(seen.messages[0], UserTurn)
    assert seen.messages[0].summary


async def _records(stage: "Stage", probe: "Probe", run: str) -> list[Record]:
    decoder = RunDecoder(stage.client.data_converter)
    events = stage.client.get_workflow_handle(probe.workflow_id, run_id=run).fetch_history_events()
    found = [await decoder.decode(event) async for event in events]
    return [stored.record for stored in found if stored is not None]
