"""Continue-as-new: nothing that is queued, parked or in progress is lost, and the numbering goes on.

A server lets a new run begin a second after the one before at the earliest, so in these tests messages also come to
runs that have not had their first workflow task.
"""

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from sojourn.testing import ScriptedCall, ScriptedFailure, ScriptedTurn
from sojourn.types import (
    AgentMessage,
    AgentToolResult,
    CustomTool,
    InvalidRequestError,
    Limits,
    ModelRequestStart,
    PermissionPolicy,
    RollOver,
    SessionStateError,
    SessionStatus,
    SessionTerminated,
    SessionUpdated,
    SessionUsage,
    SystemMessage,
    TextBlock,
    ToolCallSettledError,
    UserInterrupt,
    UserToolConfirmation,
)
from sojourn.types.id import EventId, new_event_id
from sojourn.types.name import AGENT_STATE_QUERY, STATUS_QUERY, USAGE_QUERY
from sojourn.types.session import AgentState, StatusReport, UpdateSessionInput
from sojourn.types.usage import Usage

if TYPE_CHECKING:
    from tests.conftest import Eventually, PlayedModel, Probe, Stage

SOON = RollOver(max_events=20)
DONE = ScriptedTurn(text="done")
ASK = PermissionPolicy(default="ask")


async def _rolled(probe: "Probe", runs: int = 2) -> None:
    """Add events of no consequence until the session has had this many runs."""
    while await probe.runs() < runs:
        await probe.session.send(SystemMessage(content=(TextBlock(text="note"),)))


async def test_a_conversation_goes_on_over_many_runs(stage: "Stage", played: "type[PlayedModel]") -> None:
    model = played(ScriptedTurn(text="a"), ScriptedTurn(text="b"), ScriptedTurn(text="c"), ScriptedTurn(text="d"))
    probe = await stage.session(script=model, roll_over=SOON)

    for place in range(4):
        await probe.session.send_and_wait(f"{place}")
    await probe.idle(4)

    assert await probe.runs() > 1
    assert probe.texts() == ["a", "b", "c", "d"]
    expected = [("user", "0"), ("assistant", "a"), ("user", "1"), ("assistant", "b")]
    assert model.context() == [*expected, ("user", "2"), ("assistant", "c"), ("user", "3")]


async def test_counters_are_carried(stage: "Stage") -> None:
    turns = [ScriptedTurn(text="t", usage=Usage(input_tokens=1, output_tokens=2))]
    probe = await stage.session(*turns, roll_over=SOON)
    created_at = (await probe.session.info()).created_at

    for _ in range(4):
        await probe.session.send_and_wait("go")
    await probe.idle(4)

    assert await probe.runs() > 1
    assert (await probe.session.info()).created_at == created_at
    assert probe.of(SessionUsage)[-1].usage == Usage(input_tokens=4, output_tokens=8)
    assert await probe.query(USAGE_QUERY, Usage) == Usage(input_tokens=4, output_tokens=8)
    assert (await probe.query(STATUS_QUERY, StatusReport)).turns == 4
    assert (await probe.query(AGENT_STATE_QUERY, AgentState)).seq == len(probe.log)


async def test_a_turn_goes_on_in_the_next_run(stage: "Stage", played: "type[PlayedModel]") -> None:
    def count(number: int) -> int:
        return number

    steps = [ScriptedTurn(calls=[ScriptedCall("count", {"number": number})]) for number in range(4)]
    model = played(*steps, DONE)
    probe = await stage.session(script=model, tools=[count], roll_over=SOON)

    answer = await probe.session.send_and_wait("count")
    await probe.idle()

    assert await probe.runs() > 1
    assert answer.text == "done"
    assert [text for role, text in model.context() if role == "tool"] == ["0", "1", "2", "3"]
    assert probe.story().count("session.status_running") == 1
    assert probe.of(SessionUsage)[-1].turn == Usage(input_tokens=50, output_tokens=25)


async def test_answers_still_work_after_a_parked_session_rolled_over(stage: "Stage") -> None:
    paid = []

    def pay(amount: int) -> None:
        paid.append(amount)

    turn = ScriptedTurn(calls=[ScriptedCall("pay", {"amount": amount}) for amount in (1, 2)])
    probe = await stage.session(turn, DONE, tools=[pay], policy=ASK, roll_over=SOON)
    await probe.session.send("go")
    first, second = await probe.parked()

    await _rolled(probe)
    assert [action.id for action in await probe.session.pending_actions()] == [first, second]
    await probe.session.confirm(first, allow=True)
    assert await probe.parked(2) == [second]
    await _rolled(probe, 3)
    await probe.session.confirm(second, allow=False)
    await probe.idle(3, "end_turn")

    assert paid == [1]
    assert [result.outcome for result in probe.of(AgentToolResult)] in (["denied", "ok"], ["ok", "denied"])


async def test_a_different_answer_is_refused_after_a_roll_over_too(stage: "Stage") -> None:
    def pay() -> None:
        return None

    turn = ScriptedTurn(calls=[ScriptedCall("pay"), ScriptedCall("pay")])
    probe = await stage.session(turn, DONE, tools=[pay], policy=ASK, roll_over=SOON)
    await probe.session.send("go")
    first, second = await probe.parked()
    await probe.session.confirm(first, allow=True)
    await probe.parked(2)
    await _rolled(probe)

    with pytest.raises(ToolCallSettledError):
        await probe.session.confirm(first, allow=False)

    await probe.session.confirm(second, allow=True)
    await probe.idle(3, "end_turn")


async def test_the_same_answer_sent_again_after_a_roll_over_is_one(stage: "Stage") -> None:
    def pay() -> None:
        return None

    turn = ScriptedTurn(calls=[ScriptedCall("pay"), ScriptedCall("pay")])
    probe = await stage.session(turn, DONE, tools=[pay], policy=ASK, roll_over=SOON)
    await probe.session.send("go")
    first, second = await probe.parked()
    answer = UserToolConfirmation(id=new_event_id(), tool_use_id=EventId(first), result="allow")
    await probe.session.send(answer)
    await probe.parked(2)
    await _rolled(probe)

    await probe.session.send(answer)
    await probe.session.confirm(second, allow=True)
    await probe.idle(3, "end_turn")

    assert len(probe.of(UserToolConfirmation)) == 2


async def test_an_equal_answer_as_another_event_is_no_conflict_after_a_roll_over(stage: "Stage") -> None:
    """Neither while the step still waits for other answers, nor long after it."""

    def pay() -> None:
        return None

    turn = ScriptedTurn(calls=[ScriptedCall("pay"), ScriptedCall("pay")])
    probe = await stage.session(turn, DONE, tools=[pay], policy=ASK, roll_over=SOON)
    await probe.session.send("go")
    first, second = await probe.parked()
    await probe.session.confirm(first, allow=True)
    await probe.parked(2)
    await _rolled(probe)

    await probe.session.confirm(first, allow=True)
    await probe.session.confirm(second, allow=True)
    await probe.idle(3, "end_turn")
    await _rolled(probe, 3)
    await probe.session.confirm(second, allow=True)
    with pytest.raises(ToolCallSettledError):
        await probe.session.confirm(second, allow=False)
    await probe.caught_up()

    assert len(probe.of(UserToolConfirmation)) == 2


async def test_a_custom_tools_deadline_holds_over_a_roll_over(stage: "Stage") -> None:
    look = CustomTool(name="look", description="L.", input_schema={}, timeout=timedelta(seconds=2))
    probe = await stage.session(ScriptedTurn(calls=[ScriptedCall("look")]), DONE, custom=[look], roll_over=SOON)
    await probe.session.send("go")
    await probe.parked()

    await _rolled(probe)
    await probe.idle(2, "end_turn")

    assert probe.results()["look"].outcome == "timed_out"


async def test_queued_messages_are_carried_in_order(stage: "Stage") -> None:
    def pay() -> None:
        return None

    turns = [ScriptedTurn(calls=[ScriptedCall("pay")]), *(ScriptedTurn(text=f"{place}") for place in range(4))]
    probe = await stage.session(*turns, tools=[pay], policy=ASK, roll_over=SOON)
    await probe.session.send("go")
    (call,) = await probe.parked()

    for place in range(3):
        await probe.session.send(f"{place}")
    await _rolled(probe)
    await probe.session.confirm(call, allow=True)
    await probe.idle(5, "end_turn")

    assert probe.texts() == ["0", "1", "2", "3"]


async def test_a_pause_is_carried(stage: "Stage") -> None:
    probe = await stage.session(roll_over=SOON)
    await probe.session.send_and_wait("zero")
    await probe.session.pause()
    await probe.session.send("one")

    await _rolled(probe)
    assert await probe.session.status() is SessionStatus.PAUSED
    assert (await probe.query(STATUS_QUERY, StatusReport)).status is SessionStatus.PAUSED
    await probe.caught_up()
    assert len(probe.of(ModelRequestStart)) == 1
    await probe.session.resume()
    await probe.idle(2)

    assert probe.texts()[-1] == "You said: one"


async def test_an_instruction_that_waits_for_a_message_is_carried(stage: "Stage", played: "type[PlayedModel]") -> None:
    model = played(DONE)
    probe = await stage.session(script=model, roll_over=SOON)
    await probe.session.send(SystemMessage(content=(TextBlock(text="be brief"),)))

    await _rolled(probe)
    await probe.session.send_and_wait("hi")

    assert model.context()[0] == ("system", "be brief")
    assert model.context()[-1] == ("user", "hi")


@pytest.mark.parametrize("allow", [True, False], ids=["allow", "deny"])
async def test_an_answer_to_a_run_that_has_not_begun_counts(stage: "Stage", allow: bool) -> None:
    paid = []

    def pay() -> None:
        paid.append(1)

    probe = await stage.session(
        ScriptedTurn(calls=[ScriptedCall("pay")]), DONE, tools=[pay], policy=ASK, roll_over=SOON
    )
    await probe.session.send("go")
    (call,) = await probe.parked()

    await _rolled(probe)
    await probe.session.confirm(call, allow=allow)
    await probe.idle(2, "end_turn")

    assert paid == [1] * allow


async def test_an_interrupt_of_a_run_that_has_not_begun_ends_the_turn(stage: "Stage") -> None:
    def pay() -> None:
        return None

    probe = await stage.session(
        ScriptedTurn(calls=[ScriptedCall("pay")]), DONE, tools=[pay], policy=ASK, roll_over=SOON
    )
    await probe.session.send("go")
    await probe.parked()

    await _rolled(probe)
    await probe.session.interrupt()
    await probe.idle(2, "end_turn")

    assert probe.results()["pay"].outcome == "interrupted"


async def test_an_archive_of_a_run_that_has_not_begun_closes_its_calls(stage: "Stage") -> None:
    def pay() -> None:
        return None

    probe = await stage.session(
        ScriptedTurn(calls=[ScriptedCall("pay")]), DONE, tools=[pay], policy=ASK, roll_over=SOON
    )
    await probe.session.send("go")
    await probe.parked()

    await _rolled(probe)
    await probe.session.archive()
    await probe.ended()

    assert probe.results()["pay"].outcome == "interrupted"
    assert isinstance(probe.log[-2], SessionUsage)
    assert isinstance(probe.log[-1], SessionTerminated)


async def _has_runs(probe: "Probe", runs: int) -> bool:
    return await probe.runs() >= runs


async def test_an_interrupt_between_two_steps_of_two_runs_ends_the_turn(
    stage: "Stage", eventually: "Eventually"
) -> None:
    def count() -> None:
        return None

    turn = ScriptedTurn(calls=[ScriptedCall("count")])
    probe = await stage.session(turn, tools=[count], roll_over=SOON)
    await probe.session.send("count for ever")
    await eventually(lambda: _has_runs(probe, 2), "the second run has been made")

    await probe.session.interrupt()
    await probe.idle(reason="end_turn")

    assert len(probe.of(UserInterrupt)) == 1


async def test_control_works_at_any_time_around_a_roll_over(stage: "Stage") -> None:
    probe = await stage.session(roll_over=SOON)
    await probe.session.send_and_wait("hi")

    for place in range(6):
        await probe.session.pause()
        await probe.session.update(UpdateSessionInput(title=f"{place}"))
        await probe.session.resume()
    await probe.session.send_and_wait("bye")
    await probe.idle(2)

    assert await probe.runs() > 2
    assert (await probe.session.info()).title == "5"


async def test_a_failing_step_is_retried_in_its_own_run(stage: "Stage") -> None:
    turn = ScriptedTurn(text="at last", failure=ScriptedFailure(attempts=4))
    limits = Limits(retry_interval=timedelta(milliseconds=10))
    probe = await stage.session(turn, limits=limits, roll_over=SOON)

    assert (await probe.session.send_and_wait("go")).text == "at last"
    assert (await probe.session.send_and_wait("again")).text == "at last"
    await probe.idle(2)


async def test_title_and_metadata_change_at_any_time_and_are_carried(stage: "Stage") -> None:
    probe = await stage.session(ScriptedTurn(stall=True), title="old", metadata={"a": "1", "b": "2"}, roll_over=SOON)
    await probe.session.send("go")
    await probe.saw(ModelRequestStart)

    await probe.session.update(UpdateSessionInput(title="new"))
    await probe.session.update(UpdateSessionInput(metadata={"a": None, "c": "3"}))
    await _rolled_by_interrupts(probe)

    info = await probe.session.info()
    assert (info.title, info.metadata) == ("new", {"b": "2", "c": "3"})
    first, second = probe.of(SessionUpdated)
    assert (first.title, first.metadata) == ("new", None)
    assert (second.title, second.metadata) == (None, {"b": "2", "c": "3"})


async def _rolled_by_interrupts(probe: "Probe") -> None:
    while await probe.runs() < 2:
        await probe.session.interrupt()
        await probe.caught_up()


async def test_metadata_over_the_limit_is_refused_and_the_session_goes_on(stage: "Stage") -> None:
    probe = await stage.session(metadata={f"k{place}": "v" for place in range(16)})

    with pytest.raises(InvalidRequestError):
        await probe.session.update(UpdateSessionInput(metadata={"one": "more"}))
    with pytest.raises(InvalidRequestError):
        await probe.session.update(UpdateSessionInput(metadata={"k0": "x" * 513}))

    assert (await probe.session.send_and_wait("hi")).text == "You said: hi"
    assert len((await probe.session.info()).metadata) == 16


def test_a_title_over_the_limit_cannot_be_asked_for() -> None:
    """The workflow would have to write it into its memo, where it does not fit."""
    with pytest.raises(ValidationError):
        UpdateSessionInput(title="x" * 1001)


async def test_the_agent_changes_between_turns_and_the_conversation_stays(
    stage: "Stage", played: "type[PlayedModel]"
) -> None:
    model = played(ScriptedTurn(text="old"), ScriptedTurn(text="new"))
    await stage.work(model)
    agent = await stage.agent(system="be old")
    probe = await stage.open(agent)
    await probe.session.send_and_wait("one")
    await probe.idle()

    definition = (await agent.get()).definition.model_copy(update={"system": "be new"})
    version = await agent.update(definition)
    await probe.session.update(UpdateSessionInput(agent=version))
    await probe.session.send_and_wait("two")
    await probe.idle(2)

    assert [request.system for request in model.requests] == ["be old", "be new"]
    assert model.context() == [("user", "one"), ("assistant", "old"), ("user", "two")]
    assert probe.of(SessionUpdated)[0].agent_version == 2
    assert (await probe.query(AGENT_STATE_QUERY, AgentState)).agent.version == 2


async def test_the_agent_cannot_change_during_a_turn(stage: "Stage") -> None:
    await stage.work([ScriptedTurn(text="half a", stall=True)])
    agent = await stage.agent()
    probe = await stage.open(agent)
    await probe.session.send("go")
    await probe.written("half a")
    before = len(probe.log)

    with pytest.raises(SessionStateError):
        await probe.session.update(UpdateSessionInput(agent=await agent.get()))

    assert len(await stage.runtime.list_events(probe.session)) == before


async def test_the_agent_cannot_change_while_messages_wait(stage: "Stage") -> None:
    await stage.work([DONE])
    agent = await stage.agent()
    probe = await stage.open(agent)
    await probe.session.send_and_wait("go")
    await probe.session.pause()
    await probe.session.send("wait")

    with pytest.raises(SessionStateError):
        await probe.session.update(UpdateSessionInput(agent=await agent.get()))


async def test_the_partial_text_of_a_turn_in_a_later_run_is_kept(stage: "Stage") -> None:
    turns = [*([ScriptedTurn(text="t")] * 3), ScriptedTurn(text="half a", stall=True)]
    probe = await stage.session(*turns, roll_over=SOON)
    for _ in range(3):
        await probe.session.send_and_wait("go")
    await probe.session.send("go")
    await probe.written("half a")

    await probe.session.interrupt()
    await probe.idle(4, "end_turn")

    assert await probe.runs() > 1
    assert [(event.text, event.incomplete) for event in probe.of(AgentMessage)][-1] == ("half a", True)
